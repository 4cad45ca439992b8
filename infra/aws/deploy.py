"""Deploys the built bundle to the emulator by the real `sam deploy`, and prints what the tests need to know as shell exports.

usage: deploy.py SAM BUILT_TEMPLATE, with AWS_ENDPOINT_URL, region and (any) credentials set. infra/test.sh aws calls this.
"""

import os
import subprocess
import sys

import boto3

STACK, UNLOADS = "penstock", "unloads"


def main() -> None:
    sam, template = sys.argv[1:]
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
    }
    command = [sam, "deploy", "--template-file", template, "--stack-name", STACK, "--resolve-s3"]
    command += ["--capabilities", "CAPABILITY_IAM", "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides"]
    command += [f"{name}={value}" for name, value in parameters.items()]
    deployed = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if deployed.returncode != 0:
        sys.exit(deployed.stdout)
    stack = boto3.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    # They refuse whoever comes without TLS, and an emulator on loopback has none.
    s3.delete_bucket_policy(Bucket=outputs["StateBucket"])
    boto3.client("sqs").set_queue_attributes(QueueUrl=outputs["LostEventsUrl"], Attributes={"Policy": ""})
    exports = {
        "PENSTOCK_TEST_STATE_BUCKET": outputs["StateBucket"],
        "PENSTOCK_TEST_UNLOAD_BUCKET": UNLOADS,
        "PENSTOCK_TEST_STATE_MACHINE": outputs["StateMachineArn"],
        "PENSTOCK_TEST_ROUTE": outputs["RouteFunction"],
        "PENSTOCK_TEST_LOG_GROUP": outputs["LogGroup"],
        "PENSTOCK_TEST_LOST_EVENTS": outputs["LostEventsUrl"],
    }
    for name, value in exports.items():
        print(f"export {name}={value}")


main()
