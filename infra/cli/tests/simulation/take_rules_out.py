"""Takes the rules of rules.json out of a copy of the code, one at a time, and tells the stories that were found and stories
from seeds, until one breaks a law.

usage: take_rules_out.py ROOT COPY SEEDS [PATTERN]

With a pattern (a regular expression) only the rules whose words it is found in.

Exit code 1 if a rule is missed by nobody.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys


def build(copy):
    """Builds the simulation; the path of its program, or None and what the compiler says."""
    done = subprocess.run(
        ["cargo", "test", "--locked", "--workspace", "--test", "simulation", "--no-run", "--message-format=json"],
        cwd=copy, capture_output=True, text=True, check=False,
    )
    if done.returncode != 0:
        return None, done.stderr[-2000:]
    programs = [
        message["executable"]
        for message in map(json.loads, done.stdout.splitlines())
        if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "simulation"
    ]
    return programs[-1], ""


def main():
    root, copy, seeds = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    wanted = sys.argv[4] if len(sys.argv) > 4 else ""
    rules = json.loads((root / "infra/cli/tests/simulation/rules.json").read_text())
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("target", ".git"))
    missed = []
    for rule in rules:
        if not re.search(wanted, rule["rule"]):
            continue
        file = copy / rule["file"]
        code = file.read_text()
        file.write_text(code.replace(rule["take"], rule["put"]))
        program, complaint = build(copy)
        file.write_text(code)
        if program is None:
            print(f"without: {rule['rule']}\n  does not build\n{complaint}", flush=True)
            missed.append(rule["rule"])
            continue
        told = subprocess.run(
            [program, "--nocapture", "--skip", "every_rule_is_where_the_list_says"],
            env={**os.environ, "PENSTOCK_SEEDS": seeds, "RUST_BACKTRACE": "0"},
            capture_output=True, text=True, check=False,
        )
        found = re.search(r"^(seed \d+) broke a law:$.*?\n\n(.*?)$", told.stderr, re.M | re.S)
        stories = re.findall(r"^thread 'found::(\w+)'", told.stderr, re.M)
        print(f"without: {rule['rule']}", flush=True)
        if told.returncode == 0:
            print(f"  NOT MISSED by {seeds} stories", flush=True)
            missed.append(rule["rule"])
        if found is not None:
            print(f"  {found[1]}: {found[2][:160]}", flush=True)
        for story in sorted(set(stories)):
            print(f"  {story}", flush=True)
    print(f"\n{len(missed)} rules are missed by nobody" if missed else "\nevery rule is missed")
    sys.exit(1 if missed else 0)


main()
