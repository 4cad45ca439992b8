"""Lays the functions that cargo has built out as `sam build` does, for a test that need not wait for the real build.

usage: lay_out.py PROGRAMS BUILD, from the project's root: PROGRAMS is cargo's folder of built programs, BUILD becomes what
.aws-sam/build is after `sam build`: template.yaml and a folder with `bootstrap` for each function.
"""

import json
import pathlib
import shutil
import subprocess
import sys

from samtranslator.yaml_helper import yaml_parse


def main() -> None:
    programs, build = map(pathlib.Path, sys.argv[1:])
    template = yaml_parse(pathlib.Path("template.yaml").read_text(encoding="utf-8"))
    shutil.rmtree(build, ignore_errors=True)
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        if resource["Type"] == "AWS::Serverless::Function":
            (build / name).mkdir(parents=True)
            binary = resource["Metadata"]["BuildProperties"]["Binary"]
            subprocess.run(["strip", "-o", build / name / "bootstrap", programs / binary], check=True)
            properties["CodeUri"] = name
        if "DefinitionUri" in properties:
            properties["DefinitionUri"] = str(pathlib.Path(properties["DefinitionUri"]).resolve())
    (build / "template.yaml").write_text(json.dumps(template, indent=2), encoding="utf-8")


main()
