"""Checks who may do what: every policy of the expanded template, with its references filled in.

usage: policies.py EXPANDED.json, from the project's root; EXPANDED.json is what template.py wrote. parliament finds unknown actions
and resources that an action does not take; the rest are Penstock's own rules. Prints what is wrong and exits 1.
"""

import fnmatch
import json
import re
import sys
import warnings
from pathlib import Path

# parliament finds its data by a way that setuptools has given up.
warnings.filterwarnings("ignore", category=UserWarning)
import parliament  # noqa: E402

# Made-up values, where a template has none of its own; every one of them is set, so that every condition holds.
GIVEN = {
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/ours",
    "RedshiftArn": "arn:aws:redshift-serverless:us-east-1:123456789012:workgroup/0a1b2c3d",
    "UnloadBucket": "acme-unloads",
    "UnloadKmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/theirs",
    "UnloadPrefix": "unloaded/",
}
PSEUDO = {
    "AWS::Partition": "aws",
    "AWS::Region": "us-east-1",
    "AWS::AccountId": "123456789012",
    "AWS::StackName": "penstock",
    "AWS::URLSuffix": "amazonaws.com",
}
# How a resource's ARN goes on behind region and account.
ARNS = {
    "AWS::CloudWatch::Alarm": "cloudwatch:{at}:alarm:{name}",
    "AWS::Events::EventBus": "events:{at}:event-bus/{name}",
    "AWS::Events::Rule": "events:{at}:rule/{name}",
    "AWS::IAM::ManagedPolicy": "iam::123456789012:policy/{name}",
    "AWS::IAM::Role": "iam::123456789012:role/{name}",
    "AWS::KMS::Key": "kms:{at}:key/{name}",
    "AWS::Lambda::Function": "lambda:{at}:function:{name}",
    "AWS::Logs::LogGroup": "logs:{at}:log-group:{name}:*",
    "AWS::S3::Bucket": "s3:::{name}",
    "AWS::SNS::Topic": "sns:{at}:{name}",
    "AWS::SQS::Queue": "sqs:{at}:{name}",
    "AWS::Scheduler::Schedule": "scheduler:{at}:schedule/default/{name}",
    "AWS::StepFunctions::StateMachine": "states:{at}:stateMachine:penstock",
}
# A `Ref` to one of these is its ARN and not its name.
REFERRED_BY_ARN = {"AWS::IAM::ManagedPolicy", "AWS::SNS::Topic", "AWS::StepFunctions::StateMachine"}
GONE = object()


class Filled:
    """The template's resources with every reference filled in."""

    def __init__(self, template):
        self.template = template
        parameters = template.get("Parameters", {})
        self.values = {name: str(parameter.get("Default", "")) for name, parameter in parameters.items()}
        # What has no default is set by hand when the stack is deployed.
        self.values = {name: value or f"a-{name.lower()}" for name, value in self.values.items()}
        self.values |= PSEUDO | GIVEN

    def arn(self, name):
        kind = self.template["Resources"][name]["Type"]
        if kind not in ARNS:
            sys.exit(f"infra/lint/policies.py does not know the ARNs of {kind}; add them to ARNS")
        return "arn:aws:" + ARNS[kind].format(at="us-east-1:123456789012", name=f"penstock-{name.lower()}")

    def reference(self, name):
        if name == "AWS::NoValue":
            return GONE
        if name in self.values:
            return self.values[name]
        kind = self.template["Resources"][name]["Type"]
        return self.arn(name) if kind in REFERRED_BY_ARN else f"penstock-{name.lower()}"

    def substituted(self, text):
        def value(found):
            name, _, attribute = found[1].partition(".")
            return self.arn(name) if attribute == "Arn" else self.reference(name)

        return re.sub(r"\$\{([\w:.]+)\}", value, text)

    def of(self, value):
        """A value of the template without its functions."""
        if isinstance(value, list):
            return [item for item in map(self.of, value) if item is not GONE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), = value.items()
            if function == "Ref":
                return self.reference(argument)
            if function == "Fn::GetAtt":
                name, attribute = argument if isinstance(argument, list) else argument.split(".")
                return self.arn(name) if attribute == "Arn" else f"{name}-{attribute}"
            if function == "Fn::Sub":
                return self.substituted(argument)
            if function == "Fn::If":
                return self.of(argument[1])
            if function == "Fn::Join":
                return argument[0].join(self.of(argument[1]))
        filled = {key: self.of(item) for key, item in value.items()}
        return {key: item for key, item in filled.items() if item is not GONE}


IDENTITY, RESOURCE, TRUST = "a role's", "a resource's", "who may take a role"


def policies(template):
    """Each policy document: (the resource that holds it, what kind it is, the document)."""
    filled = Filled(template)
    for name, resource in template["Resources"].items():
        properties = filled.of(resource.get("Properties", {}))
        if resource["Type"] == "AWS::IAM::Role":
            yield name, TRUST, properties["AssumeRolePolicyDocument"]
            for policy in properties.get("Policies", []):
                yield name, IDENTITY, policy["PolicyDocument"]
        elif "PolicyDocument" in properties:
            kind = IDENTITY if resource["Type"] == "AWS::IAM::ManagedPolicy" else RESOURCE
            yield name, kind, properties["PolicyDocument"]


def listed(value):
    return value if isinstance(value, list) else [value]


def too_wide(statement):
    """What a role's statement allows beyond a named thing."""
    if statement["Effect"] != "Allow":
        return
    for action in listed(statement.get("Action", "*")):
        if "*" in action:
            yield f"allows {action}; name each action"
    for resource in listed(statement.get("Resource", "*")):
        service, _, rest = resource.removeprefix("arn:aws:").partition(":")
        if service == "s3" and re.search(r"^::[^/]*\*|^::[^/]+/\*", rest):
            yield f"allows {resource}; name a prefix"
        if service == "secretsmanager" and rest.partition(":secret:")[2].startswith("*"):
            yield f"allows {resource}; name a prefix"
        if service == "lambda" and "*" in rest:
            yield f"allows {resource}; name the function"


# What the Maps need of the state machine's own role, which no emulator holds it to: "IAM policies for using Distributed Map states"
# and "Redriving Map Runs" in the Step Functions developer guide. A child's ARN has its Map's label behind the machine's name.
STATES = "arn:aws:states:us-east-1:123456789012"
BUCKET = "arn:aws:s3:::penstock-statebucket"
MACHINE_NEEDS = [
    ("states:StartExecution", f"{STATES}:stateMachine:penstock"),
    ("states:DescribeExecution", f"{STATES}:execution:penstock:a-run"),
    ("states:StopExecution", f"{STATES}:execution:penstock:a-run"),
    ("s3:GetObject", f"{BUCKET}/runs/a-sync/a-run/chunks.json"),
    ("s3:GetObject", f"{BUCKET}/map-results/an-id/manifest.json"),
    ("s3:PutObject", f"{BUCKET}/map-results/an-id/manifest.json"),
    ("s3:ListMultipartUploadParts", f"{BUCKET}/map-results/an-id/SUCCEEDED_0.json"),
    ("s3:AbortMultipartUpload", f"{BUCKET}/map-results/an-id/SUCCEEDED_0.json"),
]


def allowed(statements, action, resource):
    return any(
        statement["Effect"] == "Allow"
        and action in listed(statement["Action"])
        and any(fnmatch.fnmatchcase(resource, pattern) for pattern in listed(statement["Resource"]))
        for statement in statements
    )


def missing(template, machine):
    """What the state machine's role lacks, for a run and for its redrive."""
    statements = [
        statement
        for name, kind, document in policies(template)
        if name == "StateMachineRole" and kind == IDENTITY
        for statement in document["Statement"]
    ]
    labels = [state.get("Label", name) for name, state in machine["States"].items() if state["Type"] == "Map"]
    needs = MACHINE_NEEDS + [
        ("states:RedriveExecution", f"{STATES}:execution:penstock/{label}:a-child") for label in labels
    ]
    for action, resource in needs:
        if not allowed(statements, action, resource):
            yield f"StateMachineRole: may not {action} {resource}"


# It takes a document for wrong that does not name every kind of resource of an action; an execution of an express state machine
# is no kind of ours.
FALSE_FINDINGS = [("RESOURCE_MISMATCH", "states:DescribeExecution", "arn:*:states:*:*:express:*:*:*")]


def findings(document):
    """What parliament says: (issue, action, the form of resource that it misses) or (issue, detail)."""
    for finding in parliament.analyze_policy_string(json.dumps(document)).findings:
        details = finding.detail if isinstance(finding.detail, list) else [finding.detail]
        for detail in details:
            if isinstance(detail, dict) and {"action", "required_format"} == set(detail):
                yield finding.issue, detail["action"], detail["required_format"]
            else:
                yield finding.issue, str(detail or finding.location)


def check(template, machine):
    for name, kind, document in policies(template):
        if kind == TRUST:
            # It has no resources, which parliament would miss.
            for statement in document["Statement"]:
                if set(statement["Principal"]) != {"Service"} or statement["Action"] != "sts:AssumeRole":
                    yield f"{name}: may be taken by {statement['Principal']}; one service of AWS is enough"
            continue
        for finding in findings(document):
            if finding not in FALSE_FINDINGS:
                yield f"{name}: {': '.join(finding)}"
        if kind == IDENTITY:
            for statement in document["Statement"]:
                for problem in too_wide(statement):
                    yield f"{name}: {problem}"
    yield from missing(template, machine)


def main():
    template = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    machine = json.loads(Path("infra/sync.asl.json").read_text(encoding="utf-8"))
    problems = list(check(template, machine))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
