"""Our functions at 1, 10 and 100 million rows: cost per row and peak memory of each. Started by run.sh."""

import argparse
import pathlib
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from engine import Cost, Engine, two_days


# No destination whose records are remembered takes many more in a day.
MOST_REMEMBERED = 10_000_000


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh scale")
    parser.add_argument("--rows", default="1000000,10000000,100000000", help="sizes, with commas between them")
    parser.add_argument("--workers", type=int, default=2, help="invocations side by side")
    parser.add_argument("--compression", default="zstd", choices=["zstd", "snappy"])
    parser.add_argument("--work", help="a folder for data and state, which is emptied after each size")
    for name in ("--engine", "--python"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    print("| rows | day | function | CPU µs a row | wall s | peak MB |")
    print("|---|---|---|---|---|---|")
    for rows in map(int, options.rows.split(",")):
        with tempfile.TemporaryDirectory(prefix="penstock-bench.", dir=options.work) as folder:
            measure(options, pathlib.Path(folder), rows)


def measure(options: argparse.Namespace, work: pathlib.Path, rows: int) -> None:
    note(f"writing two days of {rows:,} orders")
    expected = two_days(options.python, work, rows, options.compression)
    first = Engine(options.engine, work / "state", work / "day1", options.workers)
    begun = first.compare("20261101T000000-1")
    begun["costs"]["finish"] = first.finish(begun["run"])
    show(rows, "first", begun)
    shutil.rmtree(work / "day1")
    second = Engine(options.engine, work / "state", work / "day2", options.workers)
    found = second.compare("20261102T000000-2")
    _, found["costs"]["decoding alone"] = second.decode(found["run"])
    counts = {kind: found["gate"]["counts"][kind] for kind in expected}
    if counts != expected:
        sys.exit(f"penstock found {counts}, and there are {expected}")
    show(rows, "second", found)
    shutil.rmtree(work / "state")
    cancelled(options, work, found["gate"]["counts"]["read"])
    shutil.rmtree(work / "state")
    if rows <= MOST_REMEMBERED:
        remembered(options, work, found["gate"]["counts"]["read"])


def cancelled(options: argparse.Namespace, work: pathlib.Path, rows: int) -> None:
    """A first sync that sends every row is cancelled half-way, one row of a hundred rejected; finish commits it, and the next run
    carries it on."""
    engine = Engine(options.engine, work / "state", work / "day2", options.workers, "send")
    begun = engine.compare("20261103T000000-1")
    delivered = engine.deliver(begun["run"], 50, reject_one_of=100)
    chunks = begun["gate"]["chunks"][: delivered["chunks"]]
    begun["costs"]["dead-letter"] = engine.settle(begun["run"], chunks)
    begun["costs"]["finish"] = engine.finish(begun["run"])
    show(rows, "first sync, half of it sent", begun)
    # The same unload: only what waits is left to be sent.
    carried_on = engine.compare("20261103T000000-2")
    left = sum(chunk["changes"] for chunk in carried_on["gate"]["chunks"])
    if left + delivered["accepted"] + delivered["rejected"] != rows:
        sys.exit(f"{delivered['accepted']} of {rows} rows were accepted, and {left} are sent again: {delivered}")
    engine.deliver(carried_on["run"], 100)
    carried_on["costs"]["dead-letter"] = engine.settle(carried_on["run"], carried_on["gate"]["chunks"])
    carried_on["costs"]["finish"] = engine.finish(carried_on["run"])
    show(rows, "the rest of it", carried_on)


def remembered(options: argparse.Namespace, work: pathlib.Path, rows: int) -> None:
    """A first sync whose records are remembered, since it removes what it has created."""
    engine = Engine(options.engine, work / "state", work / "day2", options.workers, "send", "delete")
    begun = engine.compare("20261104T000000-1")
    engine.deliver(begun["run"], 100)
    begun["costs"]["dead-letter"] = engine.settle(begun["run"], begun["gate"]["chunks"])
    begun["costs"]["finish"] = engine.finish(begun["run"])
    show(rows, "first sync, all of it sent and remembered", begun)


def show(rows: int, day: str, found: dict) -> None:
    costs = {**found["costs"]}
    alone = costs.pop("decoding alone", None)
    costs["**all**"] = sum(costs.values(), Cost())
    if alone:
        costs["decoding alone"] = alone
    for function, cost in costs.items():
        print(
            f"| {rows:,} | {day} | {function} | {cost.cpu / rows * 1e6:.3f} | {cost.wall:.1f} | {cost.peak_mb:,.0f} |", flush=True
        )
    if day == "second":
        print(
            f"scale rows={rows} cpu_us_per_row={costs['**all**'].cpu / rows * 1e6:.3f} peak_mb={costs['**all**'].peak_mb:.0f}"
            f" bytes_per_row={found['fingerprint_bytes'] / rows:.1f} state_bytes_per_row={found['snapshot_bytes'] / rows:.1f}",
            flush=True,
        )


main()
