"""Writes a drt project: DuckDB reads the Parquet, the REST destination sends."""

import pathlib

BATCHES = """\
  body_mode: batch
  batch_template: '{"records": {{ rows | tojson_safe }}}'
  max_records_per_request: 100
"""
ROWS = """\
  body_template: '{{ row | tojson_safe }}'
"""


def write(folder: pathlib.Path, home: pathlib.Path, file: pathlib.Path, url: str, batches: bool, cursor: bool) -> None:
    (folder / "syncs").mkdir(parents=True, exist_ok=True)
    (home / ".drt").mkdir(parents=True, exist_ok=True)
    (home / ".drt/profiles.yml").write_text('bench:\n  type: duckdb\n  database: ":memory:"\n')
    (folder / "drt_project.yml").write_text('name: bench\nversion: "0.1"\nprofile: bench\n')
    mode = "  mode: incremental\n  cursor_field: updated_at\n" if cursor else "  mode: full\n"
    # The limiter and the size of a load are out of the way: a load opens a client of its own.
    (folder / "syncs/orders.yml").write_text(
        f"name: orders\nmodel: \"select * from read_parquet('{file}')\"\n"
        f'destination:\n  type: rest_api\n  url: "{url}"\n  method: POST\n'
        f'  headers: {{ Content-Type: "application/json" }}\n{BATCHES if batches else ROWS}'
        f"sync:\n{mode}  batch_size: 1000000\n  rate_limit: {{ requests_per_second: 1000000000 }}\n"
        f"  on_error: fail\n"
    )
