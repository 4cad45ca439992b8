"""Parquet → HTTP, end to end: penstock, dlt and drt in turn against one sink. Started by run.sh."""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import data
from contenders import drt as drt_project
from contenders import penstock as penstock_project

HERE = pathlib.Path(__file__).parent


class Sink:
    """The sink's process."""

    def __init__(self, program: str):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().strip()

    def tell(self, what: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.address}/{what}", method="POST")).read()

    def report(self) -> dict:
        return json.load(urllib.request.urlopen(f"{self.address}/report"))

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def timed(command: list, folder: pathlib.Path, environment: dict) -> tuple:
    """Runs a command to its end: wall seconds, and CPU seconds of it and of its children, from start to end."""
    with open(folder / "output.txt", "wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    # It is reaped: Popen must not wait for it again.
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{(folder / 'output.txt').read_text()[-3000:]}")
    return wall, usage.ru_utime + usage.ru_stime


class Bench:
    def __init__(self, options: argparse.Namespace, work: pathlib.Path, sink: Sink):
        self.options, self.work, self.sink = options, work, sink
        self.python = str(pathlib.Path(options.python) / "bin/python")
        self.drt = str(pathlib.Path(options.python) / "bin/drt")
        self.runs = 0

    def fresh(self) -> pathlib.Path:
        self.runs += 1
        folder = self.work / f"run-{self.runs}"
        folder.mkdir()
        return folder

    def penstock(self, folder: pathlib.Path, files: pathlib.Path, delay: int, batches: bool, mirror: bool = False) -> tuple:
        in_flight = self.options.in_flight if delay else 4
        penstock_project.write(folder, files, self.sink.address, delay, in_flight)
        sync = "mirror" if mirror else "batches" if batches else "rows"
        return timed([self.options.penstock, "run", f"syncs/{sync}.yaml", "--state", "state", "--json"], folder, {})

    def dlt(self, folder: pathlib.Path, files: pathlib.Path, delay: int, batches: bool, cursor: bool = False) -> tuple:
        # Threads cost CPU and only help to wait.
        workers = 20 if delay else 1
        url = f"{self.sink.address}/{delay}/{'batch' if batches else 'row'}"
        command = [self.python, HERE / "contenders/dlt_push.py", files / "0000_part_00.parquet", url]
        command += [str(100 if batches else 1), str(workers), str(folder / "pipelines")]
        return timed(command + (["cursor"] if cursor else []), folder, {"HOME": str(folder)})

    def drt_(self, folder: pathlib.Path, files: pathlib.Path, delay: int, batches: bool, cursor: bool = False) -> tuple:
        url = f"{self.sink.address}/{delay}/{'batch' if batches else 'row'}"
        drt_project.write(folder, folder, files / "0000_part_00.parquet", url, batches, cursor)
        return timed([self.drt, "run"], folder, {"HOME": str(folder), "DRT_TELEMETRY": "0", "DO_NOT_TRACK": "1"})

    def contenders(self) -> dict:
        all_ = {"penstock": self.penstock, "dlt": self.dlt, "drt": self.drt_}
        return {name: all_[name] for name in self.options.contenders.split(",")}

    def all_came_once(self, name: str, rows: int, members: int = 13) -> dict:
        report = self.sink.report()
        expected = {"rows": rows, "distinct": rows, "repeated": 0, "unreadable": 0}
        expected |= {"least_members": members, "most_members": members}
        wrong = {key: report[key] for key, value in expected.items() if report[key] != value}
        if wrong:
            sys.exit(f"{name}: {rows} rows should have come, each once and with {members} members, but {wrong}")
        return report


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="run.sh push")
    parser.add_argument("--rows", type=int, default=100_000, help="rows of a run with 100 a request")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=32, help="penstock's requests in flight where answers take 50 ms")
    parser.add_argument("--contenders", default="penstock,dlt,drt")
    parser.add_argument("--cases", default="", help="only cases whose name holds this")
    for name in ("--penstock", "--sink", "--python"):
        parser.add_argument(name, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    rows = options.rows
    # One row a request is slow: fewer rows, or a round takes an hour.
    cases = [
        ("100 a request, 0 ms", rows, 0, True),
        ("100 a request, 50 ms", rows, 50, True),
        ("1 a request, 0 ms", max(1, rows // 10), 0, False),
        ("1 a request, 50 ms", max(1, rows // 100), 50, False),
    ]
    cases = [case for case in cases if options.cases in case[0]]
    with tempfile.TemporaryDirectory(prefix="penstock-bench.") as folder:
        work = pathlib.Path(folder)
        sink = Sink(options.sink)
        try:
            measure(options, cases, Bench(options, work, sink))
        finally:
            sink.end()


def measure(options: argparse.Namespace, cases: list, bench: Bench) -> None:
    rows = options.rows
    note(f"writing {rows} orders")
    for count in {count for _, count, _, _ in cases} | {rows}:
        data.first_day(bench.work / f"first-{count}", count)
    changes = data.second_day(bench.work / "second", rows)
    figures = {}
    for number in range(1, options.rounds + 1):
        for case, count, delay, batches in cases:
            for name, run in bench.contenders().items():
                bench.sink.tell("reset")
                folder = bench.fresh()
                wall, cpu = run(folder, bench.work / f"first-{count}", delay, batches)
                came = bench.all_came_once(f"{name}, {case}", count)
                figures.setdefault((case, name), []).append((count, wall, cpu))
                note(f"round {number}, {case}: {name} {wall:.2f} s wall, {cpu:.2f} s CPU, {came['most_in_flight']} in flight")
                shutil.rmtree(folder)
        if options.cases in "second run":
            second_runs(bench, changes, number, figures)
    table(options, cases, figures, changes)


def second_runs(bench: Bench, changes: dict, number: int, figures: dict) -> None:
    """A first run, untimed, then another over the next day's rows."""
    rows = bench.options.rows
    for name, run in bench.contenders().items():
        folder = bench.fresh()
        files = bench.work / f"files-{bench.runs}"
        shutil.copytree(bench.work / f"first-{rows}", files)
        # Penstock compares; the others look for what is newer, and can't see what is gone.
        more = {"mirror": True} if name == "penstock" else {"cursor": True}
        bench.sink.tell("reset")
        run(folder, files, 0, True, **more)
        bench.sink.tell("count")
        shutil.rmtree(files)
        shutil.copytree(bench.work / "second", files)
        wall, cpu = run(folder, files, 0, True, **more)
        # A cursor may find the row at its very position again.
        report = bench.sink.report()
        if name == "penstock":
            bench.all_came_once("penstock, second run", changes["changed"] + changes["added"])
            if report["deleted"] != changes["removed"]:
                sys.exit(f"penstock found {report['deleted']} of {changes['removed']} removals")
        elif report["distinct"] < changes["changed"] + changes["added"]:
            sys.exit(f"{name} sent {report['distinct']} rows in its second run")
        figures.setdefault(("second run", name), []).append((report["deleted"], wall, cpu))
        note(f"round {number}, second run: {name} {wall:.2f} s wall, {cpu:.2f} s CPU, {report['deleted']} removals")
        shutil.rmtree(folder)
        shutil.rmtree(files)


def table(options: argparse.Namespace, cases: list, figures: dict, changes: dict) -> None:
    names = options.contenders.split(",")

    def median(case: str, name: str, figure) -> float:
        return statistics.median(figure(*one) for one in figures[case, name])

    def rate(case: str, name: str) -> float:
        return median(case, name, lambda count, wall, cpu: count / wall)

    def per_cpu(case: str, name: str) -> float:
        return median(case, name, lambda count, wall, cpu: count / cpu)

    print(f"| rows per second (rows per CPU second) | {' | '.join(names)} |")
    print(f"|---|{'---|' * len(names)}")
    for case, count, _, _ in cases:
        cells = [f"{rate(case, name):,.0f} ({per_cpu(case, name):,.0f})" for name in names]
        print(f"| {count:,} rows, {case} | {' | '.join(cells)} |")
    if options.cases in "second run":
        cells = []
        for name in names:
            seconds = median("second run", name, lambda count, wall, cpu: cpu)
            wall = median("second run", name, lambda count, wall, cpu: wall)
            found = int(median("second run", name, lambda count, wall, cpu: count))
            cells.append(f"{seconds:.2f} CPU s, {wall:.2f} s; {found} of {changes['removed']} removals")
        print(f"| second run over {options.rows:,} rows, 1 % changed | {' | '.join(cells)} |")
    if options.cases == "" and "dlt" in names and "penstock" in names:
        fast, slow = cases[0][0], cases[1][0]
        over = per_cpu(fast, "penstock") / per_cpu(fast, "dlt")
        print(
            f"push rows_per_cpu_s={per_cpu(fast, 'penstock'):.0f} rows_per_s_50ms={rate(slow, 'penstock'):.0f}"
            f" over_dlt={over:.1f}"
        )


main()
