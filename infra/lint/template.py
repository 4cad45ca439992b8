"""Expands template.yaml as SAM does, and checks what cfn-lint can't see.

usage: template.py OUT.json, from the project's root. Writes the expanded template to OUT.json for cfn-lint, which finds
broken references and misspelt IAM actions only there. Prints what is wrong and exits 1.
"""

import json
import os
import re
import sys
from pathlib import Path

# The translator asks boto3 for a region and for nothing else.
os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")

import boto3  # noqa: E402
from samtranslator.model.exceptions import InvalidDocumentException  # noqa: E402
from samtranslator.parser.parser import Parser  # noqa: E402
from samtranslator.translator.translator import Translator  # noqa: E402
from samtranslator.yaml_helper import yaml_parse  # noqa: E402

FUNCTION, STATE_MACHINE = "AWS::Serverless::Function", "AWS::Serverless::StateMachine"
# How long a function has to be stopped before the state machine tries again.
MARGIN_S = 30
VARIABLE = re.compile(r"\bPENSTOCK_[A-Z_]+\b")


def of_type(template, kind):
    found = template["Resources"].items()
    return {name: resource["Properties"] for name, resource in found if resource["Type"] == kind}


def tasks(states):
    """Every Task of a state machine, those in Maps too, by name."""
    for name, state in states.items():
        if state["Type"] == "Task":
            yield name, state
        if "ItemProcessor" in state:
            yield from tasks(state["ItemProcessor"]["States"])


def check(template):
    """What is wrong between the template, the state machine and the folders."""
    functions, machine = of_type(template, FUNCTION), of_type(template, STATE_MACHINE)["StateMachine"]
    for_all = set(template["Globals"]["Function"]["Environment"]["Variables"])
    for name, function in functions.items():
        if not Path(function["CodeUri"], "Cargo.toml").is_file():
            yield f"{name}: CodeUri {function['CodeUri']} holds no Cargo.toml"
        given = for_all | set(function.get("Environment", {}).get("Variables", {}))
        sources = Path(function["CodeUri"], "src").glob("**/*.rs")
        wanted = {word for source in sources for word in VARIABLE.findall(source.read_text(encoding="utf-8"))}
        for variable in sorted(wanted - given):
            yield f"{name}: the function reads {variable}, which its environment lacks"
        for variable in sorted(given - wanted - for_all):
            yield f"{name}: its environment has {variable}, which the function does not read"
    uris = {function["CodeUri"] for function in functions.values()}
    for folder in sorted(Path("functions").glob("*/Cargo.toml")):
        if str(folder.parent) not in uris:
            yield f"{folder.parent}: no function of the template has this CodeUri"

    text = Path(machine["DefinitionUri"]).read_text(encoding="utf-8")
    wanted, given = set(re.findall(r"\$\{(\w+)\}", text)), set(machine["DefinitionSubstitutions"])
    for name in sorted(wanted ^ given):
        where = "DefinitionSubstitutions lacks" if name in wanted else "the state machine has no"
        yield f"StateMachine: {where} ${{{name}}}"
    for name, task in tasks(json.loads(text)["States"]):
        function = functions.get(task["Parameters"]["FunctionName"].strip("${}"))
        if function is None:
            yield f"state {name}: calls {task['Parameters']['FunctionName']}, which is no function of the template"
        elif task["TimeoutSeconds"] < function["Timeout"] + MARGIN_S:
            yield (
                f"state {name}: waits {task['TimeoutSeconds']} s, but its function may run {function['Timeout']} s; "
                f"two attempts could overlap"
            )


def expand(template):
    """The template as CloudFormation gets it. What `sam package` would upload gets a made-up address."""
    for function in of_type(template, FUNCTION).values():
        function["CodeUri"] = "s3://packaged/function.zip"
    for machine in of_type(template, STATE_MACHINE).values():
        machine["DefinitionUri"] = "s3://packaged/sync.asl.json"
    session = boto3.Session(region_name=os.environ["AWS_DEFAULT_REGION"])
    return Translator({}, Parser(), boto_session=session).translate(template, parameter_values={})


def main():
    template = yaml_parse(Path("template.yaml").read_text(encoding="utf-8"))
    problems = list(check(template))
    try:
        Path(sys.argv[1]).write_text(json.dumps(expand(template), indent=2), encoding="utf-8")
    except InvalidDocumentException as error:
        problems.extend(str(cause) for cause in error.causes)
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
