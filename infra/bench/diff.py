"""A day's diff: penstock, DuckDB and Polars in turn over the same two days. Started by run.sh."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from engine import Cost, Engine, measured, two_days

HERE = pathlib.Path(__file__).parent
PEERS = {
    "duckdb_kept_hashes": "DuckDB, kept hashes",
    "duckdb_full_join": "DuckDB, full join",
    "polars_hash_join": "Polars, hash join",
}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh diff")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="invocations side by side")
    parser.add_argument("--compression", default="zstd", choices=["zstd", "snappy"])
    parser.add_argument("--contenders", default="penstock,duckdb_kept_hashes,duckdb_full_join,polars_hash_join")
    parser.add_argument("--work", help="a folder for data and state, which is emptied before and after")
    for name in ("--engine", "--python"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-bench.", dir=options.work) as folder:
        measure(options, pathlib.Path(folder))


def measure(options: argparse.Namespace, work: pathlib.Path) -> None:
    note(f"writing two days of {options.rows:,} orders")
    expected = two_days(options.python, work, options.rows, options.compression)
    first = Engine(options.engine, work / "first", work / "day1", options.workers)
    begun = first.compare("20261101T000000-1")
    first.finish(begun["run"])
    rows = begun["gate"]["counts"]["read"]
    first_cost = sum(begun["costs"].values(), Cost())
    note(f"first day: {first_cost.cpu:.2f} s CPU, {begun['snapshot_bytes'] / rows:.1f} bytes a row of state")
    names = options.contenders.split(",")
    if "duckdb_kept_hashes" in names:
        measured([options.python, "-B", HERE / "contenders/differ.py", "keep", work / "day1", "-", "-"])
    figures, last = {}, {}
    for number in range(1, options.rounds + 1):
        for name in names:
            if name == "penstock":
                last = penstock(options, work, expected, figures)
            else:
                peer(options, work, name, expected, figures)
            note(f"round {number}: {name} {figures[name][-1].cpu:.2f} s CPU")
    table(options, names, figures, last, rows)


def penstock(options: argparse.Namespace, work: pathlib.Path, expected: dict, figures: dict) -> dict:
    state = work / "state"
    # Nothing writes into a file that is there: a day's state can be shared by links.
    shutil.copytree(work / "first", state, copy_function=os.link)
    engine = Engine(options.engine, state, work / "day2", options.workers)
    found = engine.compare("20261102T000000-2")
    counts = found["gate"]["counts"]
    check("penstock", {kind: counts[kind] for kind in expected}, expected)
    decoded, alone = engine.decode(found["run"])
    if decoded["rows"] != counts["read"]:
        sys.exit(f"{decoded['rows']} rows were decoded of {counts['read']}")
    figures.setdefault("decode", []).append(alone)
    for function, cost in found["costs"].items():
        figures.setdefault(function, []).append(cost)
    figures.setdefault("penstock", []).append(sum(found["costs"].values(), Cost()))
    shutil.rmtree(state)
    return found


def peer(options: argparse.Namespace, work: pathlib.Path, name: str, expected: dict, figures: dict) -> None:
    out = work / "out"
    out.mkdir()
    command = [options.python, "-B", HERE / "contenders/differ.py", name, work / "day1", work / "day2", out]
    output, cost = measured(command, environment={"POLARS_MAX_THREADS": "2"})
    check(name, json.loads(output), expected)
    figures.setdefault(name, []).append(cost)
    shutil.rmtree(out)


def check(name: str, found: dict, expected: dict) -> None:
    if found != expected:
        sys.exit(f"{name} found {found}, and there are {expected}")


def table(options: argparse.Namespace, names: list, figures: dict, last: dict, rows: int) -> None:
    def median(name: str) -> Cost:
        costs = figures[name]
        return Cost(*(statistics.median(getattr(cost, part) for cost in costs) for part in ("cpu", "wall", "peak_mb")))

    print(f"| {options.rows:,} rows × 13, {options.compression} | CPU s | over decoding | wall s | peak MB |")
    print("|---|---|---|---|---|")
    base = median("decode").cpu if "decode" in figures else 0
    shown = [("decode", "decoding alone"), *((part, f"· {part}") for part in ("plan", "read", "diff", "gate"))]
    shown = [("penstock", "**penstock**"), *shown[1:], shown[0], *PEERS.items()]
    for name, label in shown:
        if name in figures:
            cost = median(name)
            over = f"{cost.cpu / base:.2f}" if base else ""
            print(f"| {label} | {cost.cpu:.2f} | {over} | {cost.wall:.1f} | {cost.peak_mb:,.0f} |")
    if "penstock" not in names:
        return
    print(
        f"\nBytes a row: {last['fingerprint_bytes'] / rows:.1f} from read to diff, {last['snapshot_bytes'] / rows:.1f} of state,"
        " each with the key."
    )
    ours = median("penstock")
    over_duckdb = f"{ours.cpu / median('duckdb_kept_hashes').cpu:.2f}" if "duckdb_kept_hashes" in names else "none"
    print(
        f"diff cpu_over_decode={ours.cpu / base:.2f} cpu_over_duckdb={over_duckdb}"
        f" peak_mb={ours.peak_mb:.0f} bytes_per_row={last['fingerprint_bytes'] / rows:.1f}"
    )


main()
