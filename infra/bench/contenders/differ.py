"""Compares two days of orders with DuckDB or Polars: `differ.py METHOD DAY1 DAY2 OUT`. Writes each key that differs with what
happened to it, prints how many there are of each, and keeps what the method needs of day 2 for the next day."""

import json
import pathlib
import sys

KEY = "order_id"
COLUMNS = (
    "customer_id email first_name last_name country status amount discount quantity is_gift ordered_on updated_at"
).split()


def duck():
    import duckdb

    return duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})


def counts_of(database, file: pathlib.Path) -> dict:
    return dict(database.execute(f"SELECT kind, count(*) FROM '{file}' GROUP BY kind").fetchall())


KIND = f"CASE WHEN o.{KEY} IS NULL THEN 'added' WHEN n.{KEY} IS NULL THEN 'removed' ELSE 'changed' END AS kind"


def duckdb_full_join(before: pathlib.Path, now: pathlib.Path, out: pathlib.Path) -> dict:
    """Every column of both days; nothing is kept."""
    database = duck()
    differs = " OR ".join(f"n.{column} IS DISTINCT FROM o.{column}" for column in [KEY, *COLUMNS])
    database.execute(
        f"COPY (SELECT coalesce(n.{KEY}, o.{KEY}) AS {KEY}, {KIND} FROM '{now}/*.parquet' n FULL JOIN '{before}/*.parquet' o"
        f" USING ({KEY}) WHERE {differs}) TO '{out}/delta.parquet'"
    )
    return counts_of(database, out / "delta.parquet")


def keep_hashes(database, day: pathlib.Path, file: pathlib.Path) -> None:
    database.execute(
        f"COPY (SELECT {KEY}, hash({', '.join(COLUMNS)}) AS h FROM '{day}/*.parquet') TO '{file}' (COMPRESSION zstd)"
    )


def duckdb_kept_hashes(before: pathlib.Path, now: pathlib.Path, out: pathlib.Path) -> dict:
    """Key and row hash of day 1 are at hand; those of day 2 are kept, and the two are joined."""
    database = duck()
    keep_hashes(database, now, out / "hashes.parquet")
    database.execute(
        f"COPY (SELECT coalesce(n.{KEY}, o.{KEY}) AS {KEY}, {KIND} FROM '{out}/hashes.parquet' n FULL JOIN"
        f" '{before}.hashes.parquet' o USING ({KEY}) WHERE n.h IS DISTINCT FROM o.h) TO '{out}/delta.parquet'"
    )
    return counts_of(database, out / "delta.parquet")


def polars_hash_join(before: pathlib.Path, now: pathlib.Path, out: pathlib.Path) -> dict:
    """Row hashes of both days, streamed: Polars' hashes are not meant to be kept."""
    import polars as pl

    def hashed(day: pathlib.Path, name: str):
        rows = pl.scan_parquet(f"{day}/*.parquet")
        return rows.select(KEY, pl.struct(COLUMNS).hash().alias(name))

    joined = hashed(now, "n").join(hashed(before, "o"), on=KEY, how="full", coalesce=True)
    kind = pl.when(pl.col("o").is_null()).then(pl.lit("added")).when(pl.col("n").is_null()).then(pl.lit("removed"))
    differs = joined.filter(pl.col("n").ne_missing(pl.col("o"))).select(KEY, kind.otherwise(pl.lit("changed")).alias("kind"))
    differs.sink_parquet(out / "delta.parquet")
    found = pl.scan_parquet(out / "delta.parquet").group_by("kind").len().collect()
    return dict(found.iter_rows())


def main() -> None:
    method, before, now, out = sys.argv[1], *map(pathlib.Path, sys.argv[2:5])
    if method == "keep":
        keep_hashes(duck(), before, pathlib.Path(f"{before}.hashes.parquet"))
        return
    print(json.dumps(globals()[method](before, now, out)))


main()
