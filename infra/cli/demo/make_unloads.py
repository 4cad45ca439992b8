"""Writes the demo's two unloads: one customers table, as Redshift's UNLOAD leaves it on two days.

Run with Python 3.11 and pyarrow 26 from this folder: `python make_unloads.py`. The same input gives the same rows.
"""

import json
import random
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

FIRST = "Ada Bao Chen Dana Eli Femi Gia Hugo Ines Jon Kaya Liv Mona Nils Ola Pia Quin Rosa Sam Tove Uma Vera Wim Yara Zoë".split()
LAST = "Abara Berg Costa Dahl Eriksen Fuchs Garcia Haas Ito Jansen Kaya Lund Moreau Novak Ødegård Park Quist Rossi Silva Torres".split()
SEGMENTS = ["new", "regular", "loyal", None]
SCHEMA = pa.schema([
    ("customer_id", pa.int64()),
    ("email", pa.string()),
    ("first_name", pa.string()),
    ("last_name", pa.string()),
    ("segment", pa.string()),
    ("lifetime_value", pa.decimal128(18, 2)),
    ("orders", pa.int32()),
    ("last_order_at", pa.timestamp("us")),
    ("newsletter", pa.bool_()),
])


def customer(rng, number):
    first, last = rng.choice(FIRST), rng.choice(LAST)
    orders = rng.randint(0, 40)
    return {
        "customer_id": 100_000 + number,
        "email": f" {first}.{last}.{number}@example.com".lower() if number % 97 else f"{first}.{number}@EXAMPLE.com",
        "first_name": first,
        "last_name": last,
        "segment": rng.choice(SEGMENTS),
        "lifetime_value": Decimal(rng.randint(0, 900_000)) / 100,
        "orders": orders,
        "last_order_at": datetime(2026, 11, 1) + timedelta(seconds=rng.randint(0, 1_500_000)) if orders else None,
        "newsletter": rng.random() < 0.4,
    }


def write(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for part in range(2):
        name = f"{part:04}_part_00.parquet"
        table = pa.Table.from_pylist(rows[part::2], schema=SCHEMA)
        pq.write_table(table, folder / name, version="1.0", compression="snappy", use_deprecated_int96_timestamps=True)
        meta = {"content_length": (folder / name).stat().st_size, "record_count": table.num_rows}
        entries.append({"url": f"s3://acme-unloads/customers/{folder.name}/{name}", "meta": meta})
    manifest = {
        "entries": entries,
        "schema": {"elements": [{"name": name, "type": {"base": base}} for name, base in [
            ("customer_id", "bigint"), ("email", "character varying"), ("first_name", "character varying"),
            ("last_name", "character varying"), ("segment", "character varying"), ("lifetime_value", "numeric"),
            ("orders", "integer"), ("last_order_at", "timestamp without time zone"), ("newsletter", "boolean")]]},
        "meta": {key: sum(entry["meta"][key] for entry in entries) for key in ("content_length", "record_count")},
        "author": {"name": "Amazon Redshift", "version": "1.0.0"},
    }
    (folder / "manifest").write_text(json.dumps(manifest, indent=2) + "\n")


def main():
    rng = random.Random(20261121)
    day1 = [customer(rng, number) for number in range(2000)]
    # One address that no CRM takes: its row is rejected, by name.
    day1[7]["email"] = "not an address"
    write(Path("unloads/dt=2026-11-20"), day1)

    removed = set(rng.sample([n for n in range(2000) if n != 7], 12))
    day2 = [dict(row) for number, row in enumerate(day1) if number not in removed]
    for row in rng.sample(day2[20:], 60):
        row["orders"] += 1
        row["lifetime_value"] += Decimal("49.90")
        row["last_order_at"] = datetime(2026, 11, 20, 9, 30)
    day2 += [customer(rng, number) for number in range(2000, 2025)]
    rng.shuffle(day2)
    write(Path("unloads/dt=2026-11-21"), day2)


main()
