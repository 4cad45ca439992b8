"""Checks the state machine's text with the tools that know the language, each of which misses what another finds.

usage: state_machine.py NODE_FOLDER, from the project's root; NODE_FOLDER holds the packages of package-lock.json. Prints what is
wrong and exits 1.
"""

import re
import subprocess
import sys
from pathlib import Path

from statelint.config import Config
from statelint.linter import Linter
from statelint.problem import ProblemType

FILE = Path("infra/sync.asl.json")
HERE = Path(__file__).parent

# What statelint does not know that the language has, or has wrong. One that it no longer says is to be taken out.
FALSE_ERRORS = [
    # "Optionally, you can specify a Label" of a Map in distributed mode.
    r'Field "Label" not allowed in State Machine\.States\.\w+',
    # How an ItemReader's object is read.
    r'Field "InputType" not allowed in State Machine\.States\.\w+\.ItemReader\.ReaderConfig',
]


def statelint(text):
    # FLOAT: it wants 2.0 where 2 is a number, too.
    said = Linter.validate(text, Config({ProblemType.FLOAT}, False, False))
    for problem in said:
        if not any(re.fullmatch(false, problem) for false in FALSE_ERRORS):
            yield f"statelint: {problem}"
    for false in FALSE_ERRORS:
        if not any(re.fullmatch(false, problem) for problem in said):
            yield f"statelint no longer says {false}; take it out of FALSE_ERRORS"


def run(name, command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        yield f"{name}: {done.stdout.strip()}"


def check(node):
    text = FILE.read_text(encoding="utf-8")
    yield from statelint(text)
    yield from run("asl-validator", [node / "node_modules/.bin/asl-validator", "--json-path", FILE])
    service = HERE / "language_service.cjs"
    yield from run("amazon-states-language-service", ["node", service, node, FILE])


def main():
    problems = list(check(Path(sys.argv[1])))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
