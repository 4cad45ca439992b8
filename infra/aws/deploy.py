"""Deploys the built bundle to the emulator by the real `sam deploy`, and prints what the tests need to know as shell exports.

usage: deploy.py SAM BUILT_TEMPLATE, with AWS_ENDPOINT_URL, region and (any) credentials set. infra/test.sh aws calls this.
"""

import json
import os
import pathlib
import subprocess
import sys

import boto3
from samtranslator.yaml_helper import yaml_parse

STACK, UNLOADS = "penstock", "unloads"
# Long enough for a push of the tests, or for a good part of one.
PUSH_S = 20


def functions() -> list[str]:
    pages = boto3.client("lambda").get_paginator("list_functions").paginate()
    return [function["FunctionName"] for page in pages for function in page["Functions"]]


def without_what_the_emulator_refuses(template: pathlib.Path) -> pathlib.Path:
    """The template beside it, without alarms on an expression over several metrics."""
    content = yaml_parse(template.read_text(encoding="utf-8"))
    resources = content["Resources"]
    refused = [
        name
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]
    ]
    for name in refused:
        del resources[name]
    changed = template.with_name("template.emulator.json")
    changed.write_text(json.dumps(content, indent=2), encoding="utf-8")
    return changed


def main() -> None:
    sam, template = sys.argv[1], without_what_the_emulator_refuses(pathlib.Path(sys.argv[2]))
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=UNLOADS)
    s3.put_bucket_notification_configuration(
        Bucket=UNLOADS, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    parameters = {
        "Architecture": "x86_64",
        "UnloadBucket": UNLOADS,
        # So that a test sees it fire.
        "HourlySchedule": '"rate(1 minute)"',
        # Says the most.
        "LogLevel": "debug",
    }
    command = [sam, "deploy", "--template-file", template, "--stack-name", STACK, "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides"]
    command += [f"{name}={value}" for name, value in parameters.items()]
    deployed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if deployed.returncode != 0:
        sys.exit(deployed.stdout)
    stack = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    # They refuse whoever comes without TLS, and an emulator on loopback has none; this header makes it take us for one who does.
    s3.delete_bucket_policy(Bucket=outputs["StateBucket"])
    sqs = boto3.client("sqs")
    sqs.meta.events.register("before-sign.sqs", lambda request, **_: request.headers.add_header("X-Forwarded-Proto", "https"))
    sqs.set_queue_attributes(QueueUrl=outputs["LostEventsUrl"], Attributes={"Policy": ""})
    # A push that is killed is waited for until its time is up: ten minutes, as it is deployed.
    push = next(name for name in functions() if "PushFunction" in name)
    boto3.client("lambda").update_function_configuration(FunctionName=push, Timeout=PUSH_S)
    exports = {
        "PENSTOCK_TEST_STATE_BUCKET": outputs["StateBucket"],
        "PENSTOCK_TEST_UNLOAD_BUCKET": UNLOADS,
        "PENSTOCK_TEST_STATE_MACHINE": outputs["StateMachineArn"],
        "PENSTOCK_TEST_ROUTE": outputs["RouteFunction"],
        "PENSTOCK_TEST_LOG_GROUP": outputs["LogGroup"],
        "PENSTOCK_TEST_STATE_MACHINE_LOGS": f"/aws/vendedlogs/states/{STACK}",
        "PENSTOCK_TEST_LOST_EVENTS": outputs["LostEventsUrl"],
    }
    for name, value in exports.items():
        print(f"export {name}={value}")


main()
