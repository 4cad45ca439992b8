"""Writes a penstock project: an unload, a connector file for the sink, a connection and three syncs."""

import pathlib

CONNECTOR = """\
name: Sink
objects:
  orders:
    upsert:
      method: POST
      path: "/{delay}/batch"
      batch: { rows: 100, bytes: 1000000 }
      body: { records: { $each: { "...": $record } } }
      answer:
        results: { at: /results, by: [{ match: /id }], id: /id, created: { at: /new } }
    delete:
      method: POST
      path: "/{delay}/delete"
      batch: { rows: 100 }
      body: { records: { $each: { "...": $match } } }
      answer:
        results: { at: /results, by: [{ match: /id }], id: /id }
  order:
    upsert: { method: POST, path: "/{delay}/row", body: $record }
settings:
  delay: { default: "0", about: "How long the sink waits before it answers, in ms." }
"""
FIELDS = (
    "customer_id email first_name last_name country status amount discount quantity is_gift ordered_on updated_at"
)


def write(folder: pathlib.Path, data: pathlib.Path, address: str, delay_ms: int, in_flight: int) -> None:
    for kind in ("unloads", "connections", "syncs"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    (folder / "unloads/orders.yaml").write_text(f"location: {data}/\nprimary_key: [order_id]\n")
    (folder / "connections/sink-api.yaml").write_text(CONNECTOR)
    (folder / "connections/sink.yaml").write_text(
        f'connector: ./sink-api.yaml\naddress: "{address}"\nsettings: {{ delay: "{delay_ms}" }}\n'
        f"limits: {{ requests_in_flight: {in_flight} }}\n"
    )
    fields = "".join(f"  {name}: {name}\n" for name in FIELDS.split())
    for name, object_, more in (
        ("batches", "orders", ""),
        ("mirror", "orders", "on_removed: delete\n"),
        ("rows", "order", ""),
    ):
        (folder / f"syncs/{name}.yaml").write_text(
            f"unload: orders\nconnection: sink\nobject: {object_}\nmatch: {{ order_id: order_id }}\n"
            f"mode: upsert\n{more}fields:\n{fields}"
        )
