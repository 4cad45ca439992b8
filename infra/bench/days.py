"""Two days of orders as DuckDB writes them: 13 columns of mixed types, any number of rows, in constant memory.
`days.py FOLDER ROWS COMPRESSION` writes them and prints what a comparison of the two must find.

Day 2 holds the same orders in another order and in other files; 1 % are changed, 0.5 % gone, 0.5 % new. Every value follows
from the order's number alone, so that a day is the same on every machine.
"""

import json
import math
import pathlib
import sys

import duckdb

SALT = {name: number for number, name in enumerate(
    "customer first last country status amount discount quantity gift day second changed removed missing".split(), 1
)}


def pick(name: str, most: int, version: str = "") -> str:
    """A number below `most` that follows from the order's number `k`, and from its version if that is given."""
    return f"(hash(k * 16 + {SALT[name]}{version}) % {most})"


def one_of(name: str, words: list, version: str = "") -> str:
    listed = ", ".join("'" + word.replace("'", "''") + "'" for word in words)
    return f"([{listed}])[1 + {pick(name, len(words), version)}::INT]"


FIRST = ["Ann", "Bao", "Chloé", "Dmitri", "Elif", "Femi", "Giulia", "Hiro", "Inés", "Jörg", "Kofi", "Lena", "Mateo", "Noor"]
LAST = ["Smith", "Nguyen", "García", "Müller", "Okafor", "Rossi", "Tanaka", "Novák", "Silva", "O'Brien", "Kowalska", "Haddad"]
# Of a changed order the status, the amount and the time of the change are others.
V = " + v * 7777777"
COLUMNS = f"""
  k AS order_id,
  (1 + {pick("customer", 1_000_000)})::BIGINT AS customer_id,
  'customer.' || {pick("customer", 1_000_000_000_000)}::VARCHAR || '@example.com' AS email,
  {one_of("first", FIRST)} AS first_name,
  {one_of("last", LAST)} AS last_name,
  {one_of("country", ["DE", "US", "FR", "JP", "BR", "NG", "IT", "ES"])} AS country,
  {one_of("status", ["placed", "paid", "shipped", "delivered", "returned"], V)} AS status,
  ({pick("amount", 10_000_000, V)} / 100)::DECIMAL(18, 2) AS amount,
  CASE WHEN {pick("missing", 20)} = 0 THEN NULL ELSE {pick("discount", 400)} / 1000 END AS discount,
  (1 + {pick("quantity", 20)})::INT AS quantity,
  {pick("gift", 10)} = 0 AS is_gift,
  DATE '2026-01-01' + {pick("day", 320)}::INT AS ordered_on,
  TIMESTAMPTZ '2026-11-20 00:00:00+00' + to_microseconds({pick("second", 86_400_000_000, V)}::BIGINT) AS updated_at
"""


def step(count: int) -> int:
    """A step that visits each of `count` numbers once, far from the one before."""
    found = int(count * 0.6180339887) | 1
    while math.gcd(found, count) != 1:
        found += 2
    return found


def write(folder: pathlib.Path, count: int, files: int, start: int, second_day: bool, compression: str) -> None:
    folder.mkdir(parents=True)
    database = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    database.execute("SET TimeZone = 'UTC'")
    changed = f"(hash(k * 16 + {SALT['changed']}) % 100 = 0)::INT" if second_day else "0"
    gone = f"WHERE hash(k * 16 + {SALT['removed']}) % 200 <> 0 OR k > {count}" if second_day else ""
    every = count + count // 200 if second_day else count
    for number in range(files):
        begin, end = every * number // files, every * (number + 1) // files
        keys = f"SELECT 1 + ((i + {start}) * {step(every)}::HUGEINT % {every})::BIGINT AS k FROM range({begin}, {end}) numbers(i)"
        rows = f"SELECT {COLUMNS} FROM (SELECT k, {changed} AS v FROM ({keys}) {gone})"
        database.execute(
            f"COPY ({rows}) TO '{folder / f'{number:04}_part_00.parquet'}'"
            f" (FORMAT parquet, COMPRESSION {compression}, ROW_GROUP_SIZE 122880)"
        )
    (folder / "_SUCCESS").touch()


def generate(work: pathlib.Path, count: int, compression: str) -> None:
    """Writes `day1` and `day2` below `work`."""
    files = max(2, count // 2_500_000)
    write(work / "day1", count, files, 0, False, compression)
    write(work / "day2", count, files + 1, count // 3, True, compression)


def expected(count: int) -> dict:
    """What a comparison of the two days must find."""
    database = duckdb.connect()
    gone = f"hash(k * 16 + {SALT['removed']}) % 200 = 0"
    changed = f"hash(k * 16 + {SALT['changed']}) % 100 = 0"
    found = database.execute(
        f"SELECT count(*) FILTER ({changed} AND NOT {gone}), count(*) FILTER ({gone}) FROM"
        f" (SELECT i AS k FROM range(1, {count + 1}) numbers(i))"
    ).fetchone()
    return {"added": count // 200, "changed": found[0], "removed": found[1]}


if __name__ == "__main__":
    generate(pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
    print(json.dumps(expected(int(sys.argv[2]))))
