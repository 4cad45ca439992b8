"""Our functions, each invocation in a process of its own. Shared by diff.py and scale.py."""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

FIELDS = (
    "customer_id email first_name last_name country status amount discount quantity is_gift ordered_on updated_at"
).split()


@dataclasses.dataclass
class Cost:
    """CPU and wall seconds, and the largest memory of a process in MB."""

    cpu: float = 0.0
    wall: float = 0.0
    peak_mb: float = 0.0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.cpu + other.cpu, self.wall + other.wall, max(self.peak_mb, other.peak_mb))


def measured(command: list, request: str = "", environment: dict | None = None) -> tuple:
    """Runs a command to its end. Gives its output and what it cost; stops the benchmark if it fails."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        given.write(request.encode())
        given.seek(0)
        began = time.monotonic()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=given, stdout=output, stderr=errors, env={**os.environ, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode != 0:
            sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.read().decode()[-3000:]}")
        # Linux tells the peak in KiB.
        return output.read().decode(), Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 1024)


def two_days(python: str, work: pathlib.Path, rows: int, compression: str) -> dict:
    """Writes `day1` and `day2` below `work`; gives what a comparison must find. In a process of its own: Linux counts what the
    parent held when it forked as the child's peak."""
    script = pathlib.Path(__file__).parent / "days.py"
    return json.loads(measured([python, "-B", script, work, rows, compression])[0])


class Engine:
    """A sync of orders, its state in a folder."""

    def __init__(self, program: str, state: pathlib.Path, unload: pathlib.Path, workers: int, first_run: str = "baseline", on_removed: str = "nothing"):
        self.program, self.state, self.workers = program, state, workers
        definitions = {
            "syncs": {
                "unload": "orders", "connection": "warehouse", "object": "public.orders", "match": {"order_id": "order_id"},
                "mode": "upsert", "first_run": first_run, "on_removed": on_removed, "fields": {name: name for name in FIELDS},
            },
            "unloads": {"location": f"{unload}/", "primary_key": ["order_id"]},
            "connections": {"connector": "postgres", "address": "postgres://localhost/bench"},
            "connectors": "postgres",
        }
        names = {"syncs": "orders", "unloads": "orders", "connections": "warehouse", "connectors": "warehouse"}
        for kind, definition in definitions.items():
            file = state / "definitions" / kind / f"{names[kind]}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            # Replaced and not written over: the folder may share its files with another by hard links.
            file.unlink(missing_ok=True)
            file.write_text(json.dumps(definition))

    def invoke(self, function: str, request: dict) -> tuple:
        output, cost = measured([self.program, function, self.state], json.dumps(request))
        return json.loads(output), cost

    def all_of(self, function: str, requests: list) -> Cost:
        """Invocations side by side: CPU and peak by process, wall from the first to the last."""
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(self.workers) as pool:
            costs = [cost for _, cost in pool.map(lambda request: self.invoke(function, request), requests)]
        total = sum(costs, Cost())
        total.wall = time.monotonic() - began
        return total

    def compare(self, name: str) -> dict:
        """Plan, read, diff and gate of a run: what each cost, and `gate.json`."""
        start = {"sync": "orders", "options": {}}
        request = {"contract": 1, "run": name, "execution": name, "request": start}
        planned, cost = self.invoke("plan", request)
        costs = {"plan": cost}
        for function, items, item in (("read", "splits", "split"), ("diff", "partitions", "partition")):
            listed = json.loads((self.state / planned[items]["key"]).read_text())
            requests = [{"contract": 1, "run": planned["run"], item: entry[item]} for entry in listed]
            costs[function] = self.all_of(function, requests)
        _, costs["gate"] = self.invoke("gate", {"contract": 1, "run": planned["run"]})
        folder = self.state / "runs/orders" / name
        return {
            "run": planned["run"],
            "costs": costs,
            "gate": json.loads((folder / "gate.json").read_text()),
            "fingerprint_bytes": sum(file.stat().st_size for file in (folder / "fingerprints").glob("*.bin")),
            "snapshot_bytes": self.snapshot_bytes(),
        }

    def snapshot_bytes(self) -> int:
        """Of the newest generation."""
        generations = sorted((self.state / "state/orders/snapshots").iterdir())
        return sum(file.stat().st_size for file in generations[-1].glob("part-*.parquet"))

    def finish(self, run: dict) -> Cost:
        return self.invoke("finish", {"contract": 1, "run": run})[1]

    def deliver(self, run: dict, percent: int, reject_one_of: int | None = None) -> dict:
        """Receipts for the first chunks, as pushes leave them; nothing of the others."""
        return self.invoke("deliver", {"run": run, "percent": percent, "reject_one_of": reject_one_of})[0]

    def settle(self, run: dict, chunks: list) -> Cost:
        """What each of these chunks leaves."""
        return self.all_of("dead-letter", [{"contract": 1, "run": run, "chunk": chunk["chunk"]} for chunk in chunks])

    def decode(self, run: dict) -> tuple:
        return self.invoke("decode", {"contract": 1, "run": run})
