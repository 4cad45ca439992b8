"""Checks that each permission of a role is needed, and that each call has its permission.

usage: needed.py EXPANDED.json, from the project's root; EXPANDED.json is what template.py wrote. A function's permission is needed by a
call of the AWS SDK, which stands in `shared/store`, and by the client that the function makes for it; an object's prefix also by a key
that `shared/model/src/layout.rs` makes. What a service of AWS does in a role's name stands in a table here with the part of the template
that makes it do so. That the permissions suffice is shown by `infra/test.sh aws`, where roles are enforced. Prints what is wrong and
exits 1.
"""

import json
import re
import sys
from pathlib import Path

from policies import IDENTITY, Filled, listed, policies

STORE = Path("shared/store/src")
# What a person at a terminal asks for, with a person's own rights.
OF_A_PERSON = {"deployed.rs", "stack.rs"}

# Each action: the calls of the SDK that it allows, and the client, as a function's context makes it, through which they go.
CALLS = {
    "redshift-data:DescribeStatement": ({"describe_statement"}, "redshift"),
    "redshift-data:ExecuteStatement": ({"execute_statement"}, "redshift"),
    "s3:DeleteObject": ({"delete_object"}, "objects"),
    "s3:GetObject": ({"get_object", "head_object"}, "objects"),
    "s3:ListBucket": ({"list_objects_v2"}, "objects"),
    "s3:PutObject": (
        {"put_object", "create_multipart_upload", "upload_part", "complete_multipart_upload"},
        "objects",
    ),
    "secretsmanager:GetSecretValue": ({"get_secret_value"}, "secrets"),
    "secretsmanager:PutSecretValue": ({"put_secret_value"}, "secrets"),
    "states:DescribeExecution": ({"describe_execution"}, "executions"),
    "states:StartExecution": ({"start_execution"}, "executions"),
}
# Of a client with several actions a function may use one: which words in its code, or in that of the destinations that it calls,
# use it.
USES = {
    # A commit removes old snapshots, and a job at a destination is forgotten once it has ended.
    "s3:DeleteObject": r"\b(commit\(ports|jobs::forget\()",
    "secretsmanager:PutSecretValue": r"secrets\.store\(",
    "states:DescribeExecution": r"\b(executions\.describe\(|lease::take\(|plans::redriven_at\()",
    "states:StartExecution": r"executions\.start\(",
}

# (role, action): a text of the template that makes a service do it in the role's name.
BY_AWS = {
    ("FunctionBasePolicy", "kms:Decrypt"): "KMSMasterKeyID",
    ("FunctionBasePolicy", "kms:GenerateDataKey"): "KMSMasterKeyID",
    ("FunctionBasePolicy", "logs:CreateLogStream"): "LogFormat: JSON",
    ("FunctionBasePolicy", "logs:PutLogEvents"): "LogFormat: JSON",
    ("ReadUnloadsPolicy", "kms:Decrypt"): "UnloadKmsKeyArn",
    ("RouteRole", "sqs:SendMessage"): "OnFailure: { Type: SQS",
    ("SchedulerRole", "kms:Decrypt"): "KmsMasterKeyId",
    ("SchedulerRole", "kms:GenerateDataKey"): "KmsMasterKeyId",
    ("SchedulerRole", "lambda:InvokeFunction"): "Type: AWS::Scheduler::Schedule",
    ("SchedulerRole", "sqs:SendMessage"): "DeadLetterConfig",
    ("UnloadRole", "redshift-serverless:GetCredentials"): "RedshiftIsServerless",
    ("UnloadRole", "secretsmanager:GetSecretValue"): "RedshiftArn",
}
# The state machine's: what its text makes Step Functions do; `policies.py` holds the other direction.
BY_STATES = {
    "kms:Decrypt": '"ItemReader"',
    "kms:GenerateDataKey": '"ResultWriter"',
    "lambda:InvokeFunction": "states:::lambda:invoke",
    "logs:": "",
    "s3:AbortMultipartUpload": '"ResultWriter"',
    "s3:GetObject": '"ItemReader"',
    "s3:ListMultipartUploadParts": '"ResultWriter"',
    "s3:PutObject": '"ResultWriter"',
    "states:": '"DISTRIBUTED"',
}


def text_of(folder):
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("**/*.rs")))


def calls_in_store():
    """Calls of the SDK that functions can come to."""
    files = [path for path in sorted(STORE.glob("**/*.rs")) if path.name not in OF_A_PERSON]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    # Every call of a client's operation begins one of these ways.
    found = re.findall(r"\bclient\s*\.(\w+)\(\)", text)
    return {call for call in found if call != "clone"}


def code_of(folder):
    """A function's own code, and it with that of the destinations if it hands its clients to them."""
    own = text_of(folder / "src")
    manifest = (folder / "Cargo.toml").read_text(encoding="utf-8")
    handed = text_of("shared/destinations/src") if "penstock-destinations.workspace" in manifest else ""
    return own, own + handed


def granted(template):
    """Each action with its resources, by the role or shared policy that allows it."""
    for name, kind, document in policies(template):
        if kind == IDENTITY:
            for statement in document["Statement"]:
                for action in listed(statement["Action"]):
                    yield name, action, listed(statement["Resource"])


def made_keys():
    """The ends of all keys that are made, as patterns: what is filled in may be anything."""
    layout = Path("shared/model/src/layout.rs").read_text(encoding="utf-8")
    texts = re.findall(r'(?:format!\(|self\.at\()\s*&?(?:format!\()?"([^"]*)"', layout)
    filled = [re.sub(r"\{[^}]*\}", "*", text) for text in texts]
    # What `at` puts before the rest.
    return filled + [f"runs/*/*/{text}" for text in filled]


def is_made(pattern, keys):
    """Whether some key that is made can fit a role's pattern."""
    wanted = [part for part in pattern.split("*") if part.strip("/")]
    return any(all(part.strip("/") in key for part in wanted) for key in keys)


def check(template):
    made = calls_in_store()
    known = set().union(*(calls for calls, _ in CALLS.values()))
    for call in sorted(made - known):
        yield f"{STORE}: calls {call}, which no action in infra/lint/needed.py allows"
    for action, (calls, _) in CALLS.items():
        for call in sorted(calls - made):
            yield f"infra/lint/needed.py: {action} is for {call}, which nobody calls"

    grants = list(granted(template))
    source = Path("template.yaml").read_text(encoding="utf-8")
    machine = Path("infra/sync.asl.json").read_text(encoding="utf-8")
    keys = made_keys()
    bucket = "arn:aws:s3:::penstock-statebucket/"
    for name, action, resources in grants:
        if name == "StateMachineRole":
            reason = next((text for prefix, text in BY_STATES.items() if action.startswith(prefix)), None)
            if reason is None or reason not in machine:
                yield f"{name}: allows {action}, which the state machine does not need"
        elif (name, action) in BY_AWS:
            if BY_AWS[name, action] not in source:
                yield f"{name}: allows {action} for what is no longer in the template: {BY_AWS[name, action]}"
        elif action not in CALLS:
            yield f"{name}: allows {action}, which nobody calls; if a service of AWS does, say so in infra/lint/needed.py"
        for resource in resources:
            key = resource.removeprefix(bucket)
            if key != resource and name != "StateMachineRole" and not is_made(key, keys):
                yield f"{name}: allows {action} on {key}, and no key in layout.rs is like that"
    for name, action in BY_AWS:
        if not any((name, action) == (role, allowed) for role, allowed, _ in grants):
            yield f"infra/lint/needed.py: {name} does not allow {action}"
    yield from between_functions_and_roles(template, grants)


def between_functions_and_roles(template, grants):
    """Each function's clients beside what its role allows."""
    shared = {action for name, action, _ in grants if name == "FunctionBasePolicy"}
    filled = Filled(template)
    for function in [it for it in template["Resources"].values() if it["Type"] == "AWS::Lambda::Function"]:
        role = function["Properties"]["Role"]["Fn::GetAtt"][0]
        folder = Path("functions", re.sub(r"(?<!^)(?=[A-Z])", "-", role.removesuffix("Role")).lower())
        own, code = code_of(folder)
        allowed = {action for name, action, _ in grants if name == role}
        for action, (_, client) in CALLS.items():
            has_client = f"aws.{client}(" in own
            is_used = has_client and re.search(USES.get(action, ""), code) is not None
            if action in allowed and not is_used and (role, action) not in BY_AWS:
                yield f"{role}: allows {action}, which {folder} does not use"
            if is_used and action not in allowed | shared:
                yield f"{role}: lacks {action}, which {folder} uses"
        attached = template["Resources"][role]["Properties"].get("ManagedPolicyArns", [])
        reads_unloads = filled.reference("ReadUnloadsPolicy") in filled.of(attached)
        if reads_unloads != ("aws.opener(" in own):
            yield f"{role}: {'reads unloads, and' if reads_unloads else 'can not read unloads, but'} {folder} opens {'none' if reads_unloads else 'some'}"


def main():
    problems = list(check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
