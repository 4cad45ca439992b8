"""Orders as Parquet: 13 columns of mixed types, and the same a day later with 1 % changed."""

import datetime
import decimal
import pathlib
import random

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("order_id", pa.int64()),
        ("customer_id", pa.int64()),
        ("email", pa.string()),
        ("first_name", pa.string()),
        ("last_name", pa.string()),
        ("country", pa.string()),
        ("status", pa.string()),
        ("amount", pa.decimal128(18, 2)),
        ("discount", pa.float64()),
        ("quantity", pa.int32()),
        ("is_gift", pa.bool_()),
        ("ordered_on", pa.date32()),
        ("updated_at", pa.timestamp("us", tz="UTC")),
    ]
)
FIRST = ["Ann", "Bao", "Chloé", "Dmitri", "Elif", "Femi", "Giulia", "Hiro", "Inés", "Jörg"]
LAST = ["Smith", "Nguyen", "García", "Müller", "Okafor", "Rossi", "Tanaka", "Novák", "Silva", "O'Brien"]
COUNTRIES = ["DE", "US", "FR", "JP", "BR", "NG", "IT", "ES"]
STATUSES = ["placed", "paid", "shipped", "delivered", "returned"]
DAY = datetime.datetime(2026, 11, 20, tzinfo=datetime.timezone.utc)


def order(key: int, changed: bool = False) -> tuple:
    """The order of this key: the same values on every machine."""
    rng = random.Random(key * 2 + changed)
    first, last = rng.choice(FIRST), rng.choice(LAST)
    # No row of the first day is as new as those of the second, so that a cursor finds just these.
    seconds = 86_400 + rng.randrange(86_400) if changed else rng.randrange(86_400)
    return (
        key,
        rng.randrange(1, 1_000_000),
        f"{first.lower()}.{last.lower()}.{key}@example.com",
        first,
        last,
        rng.choice(COUNTRIES),
        rng.choice(STATUSES),
        decimal.Decimal(rng.randrange(100, 10_000_000)).scaleb(-2),
        rng.randrange(0, 400) / 1000,
        rng.randrange(1, 20),
        rng.random() < 0.1,
        datetime.date(2026, 1, 1) + datetime.timedelta(days=rng.randrange(320)),
        DAY + datetime.timedelta(seconds=seconds, microseconds=rng.randrange(1_000_000)),
    )


def write(folder: pathlib.Path, rows: list) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows), SCHEMA)]
    file = folder / "0000_part_00.parquet"
    pq.write_table(pa.table(columns, schema=SCHEMA), file, compression="snappy")
    (folder / "_SUCCESS").touch()
    return file


def first_day(folder: pathlib.Path, count: int) -> pathlib.Path:
    """`count` orders."""
    return write(folder, [order(key) for key in range(1, count + 1)])


def second_day(folder: pathlib.Path, count: int) -> dict:
    """The same a day later: 0.8 % changed, 0.1 % gone, 0.1 % new. Gives how many of each."""
    each = max(1, count // 1000)
    changed = set(range(each + 1, count + 1, max(1, count // (8 * each))))
    changed = set(sorted(changed)[: 8 * each])
    rows = [order(key, key in changed) for key in range(each + 1, count + 1)]
    rows += [order(key, True) for key in range(count + 1, count + each + 1)]
    write(folder, rows)
    return {"changed": len(changed), "added": each, "removed": each}
