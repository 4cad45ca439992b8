"""Measures what `sam build` has left: each function's zip, and what it costs to start.

usage: measure.py BUILD_FOLDER [--rounds N]

CPU is what the process has used, by the kernel's count, when it first asks the runtime API for work: linking, clients, TLS
roots. The runtime API is a socket of this program; nothing else is called. Prints a Markdown table, medians over the
rounds, and exits 1 if a zip is larger than 8 MB.
"""

import argparse
import io
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import zipfile

LARGEST_ZIP = 8_000_000
ENVIRONMENT = {
    "PENSTOCK_BUCKET": "measured",
    "PENSTOCK_STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:measured",
    "PENSTOCK_SECRET_PREFIX": "measured/",
    "PENSTOCK_STACK": "measured",
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_LAMBDA_FUNCTION_NAME": "measured",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
}


def zip_bytes(program: pathlib.Path) -> int:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(program, "bootstrap")
    return len(packed.getvalue())


def cpu_ms_to_first_poll(program: pathlib.Path) -> float:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        process = subprocess.Popen(
            [program],
            env={**ENVIRONMENT, "AWS_LAMBDA_RUNTIME_API": address},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            connection, _ = server.accept()
            request = connection.recv(4096)
            if not request.startswith(b"GET /2018-06-01/runtime/invocation/next"):
                sys.exit(f"{program}: asked for something else first: {request[:80]!r}")
            # The first figure is the time on a processor, in nanoseconds.
            threads = pathlib.Path(f"/proc/{process.pid}/task").iterdir()
            used = sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads)
            connection.close()
            return used / 1e6
        finally:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="measure.py")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    programs = sorted(options.build.glob("*/bootstrap"))
    if not programs:
        sys.exit(f"{options.build} holds no function; build first")
    print("| function | bootstrap MB | zip MB | CPU ms to first poll |\n|---|---|---|---|")
    too_large = []
    for program in programs:
        zipped = zip_bytes(program)
        if zipped > LARGEST_ZIP:
            too_large.append(program.parent.name)
        try:
            polls = [cpu_ms_to_first_poll(program) for _ in range(options.rounds)]
        except OSError:
            # Built for another processor.
            polls = []
        shown = f"{statistics.median(polls):.1f}" if polls else "another processor"
        print(f"| {program.parent.name} | {program.stat().st_size / 1e6:.1f} | {zipped / 1e6:.1f} | {shown} |")
    if too_large:
        sys.exit(f"larger than {LARGEST_ZIP / 1e6:.0f} MB: {', '.join(too_large)}")


main()
