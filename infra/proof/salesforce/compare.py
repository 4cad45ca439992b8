"""Penstock's requests to Salesforce beside those of jsforce and simple-salesforce, for the same rows.

compare.py PENSTOCK NODE_MODULES_FOLDER
"""

import csv
import datetime
import decimal
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq

HERE = pathlib.Path(__file__).parent
ROWS = HERE / "rows.json"
TOKEN = "pat-twin"

# What differs on purpose: client, step, part, and why.
KNOWN = {
    ("jsforce", "make", "body.lineEnding"): "left to Salesforce's default, which is LF",
    ("jsforce", "make", "body.columnDelimiter"): "left to Salesforce's default, which is COMMA",
    ("jsforce", "make", "body.contentType"): "left to Salesforce's default, which is CSV",
    ("jsforce", "make", "content_type"): "a charset is named",
    ("jsforce", "close", "content_type"): "a charset is named",
    ("jsforce", "delete", "query.allOrNone"): "left to Salesforce's default, which is false",
    ("simple-salesforce", "upload", "content_type"): "a charset is named",
}


class Twin:
    """`penstock twin salesforce` with two accounts; `requests` once it has ended."""

    def __init__(self, penstock, folder):
        self.file = folder / "requests.jsonl"
        command = [penstock, "twin", "salesforce", "--token", TOKEN, "--requests", str(self.file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if found := re.search(r"http://\S+", line):
                self.address = found[0]
            if "Ctrl-C" in line:
                break
        accounts = [{"attributes": {"type": "Account"}, "Name": name, "External_Id__c": name} for name in ("A1", "A2")]
        body = json.dumps({"allOrNone": False, "records": accounts}).encode()
        url = self.address + "/services/data/v67.0/composite/sobjects"
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, body, headers)).read()

    def end(self):
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=30)
        requests = [json.loads(line) for line in self.file.read_text().splitlines() if line]
        return requests[1:]


def unload(rows, folder):
    day = folder / "unload"
    day.mkdir()
    moment = lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    table = pa.table({
        "id": pa.array([row["id"] for row in rows], pa.int64()),
        **{name: pa.array([row[name] for row in rows], pa.string())
           for name in ("last_name", "email", "phone", "segment", "account")},
        "lifetime_value": pa.array([decimal.Decimal(row["lifetime_value"]) for row in rows], pa.decimal128(18, 2)),
        "newsletter": pa.array([row["newsletter"] for row in rows], pa.bool_()),
        "birthdate": pa.array([datetime.date.fromisoformat(row["birthdate"]) for row in rows], pa.date32()),
        "last_order": pa.array([moment(row["last_order"]) for row in rows], pa.timestamp("us", tz="UTC")),
    })
    pq.write_table(table, day / "part.parquet")
    (day / "_SUCCESS").touch()


def penstock(binary, twin, api, folder):
    """One run; by collections a second one, without the second row."""
    rows = json.loads(ROWS.read_text())
    unload(rows, folder)
    (folder / "org").write_text(json.dumps({"client_id": "twin", "client_secret": TOKEN}))
    (folder / "customers.yaml").write_text("location: unload\nprimary_key: [id]\n")
    (folder / "salesforce.yaml").write_text(
        f"connector: salesforce\naddress: {twin.address}\nsettings: {{ api: {api} }}\n"
        "auth: { client_credentials: { secret: { file: org } } }\n")
    (folder / "contacts.yaml").write_text(
        "unload: customers\nconnection: salesforce\nobject: Contact\nmatch: { External_Id__c: id }\non_removed: delete\n"
        "fields:\n  LastName: last_name\n  Email: email\n  Phone: phone\n  Lifetime_Value__c: lifetime_value\n"
        "  Newsletter__c: newsletter\n  Birthdate: birthdate\n  Last_Order__c: last_order\n"
        "  Segment__c: { column: segment, on_null: clear }\n  Account: { lookup: { External_Id__c: account } }\n")
    command = [binary, "run", str(folder / "contacts.yaml"), "--state", str(folder / "state"), "--json"]

    def run():
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if ended.returncode != 0:
            sys.exit(f"penstock could not deliver: {ended.stdout}")

    run()
    if api == "collections":
        file = folder / "unload/part.parquet"
        pq.write_table(pq.read_table(file).take([0, 2]), file)
        run()


def steps(requests):
    """The calls that carry something, by what they are for."""
    found = {}
    for request in requests:
        path, _, query = request["path"].partition("?")
        path = re.sub(r"/750\w+", "/{job}", path)
        kind = (request["content_type"] or "").lower()
        step = {"method": request["method"], "path": path, "content_type": kind}
        body = request["body"]
        if path.endswith("/token"):
            name, step["form"] = "token", dict(urllib.parse.parse_qsl(body))
        elif request["method"] == "PATCH" and "/composite/" in path:
            name, step["body"] = "upsert", by_key(json.loads(body))
        elif request["method"] == "DELETE" and "/composite/" in path:
            name, step["content_type"] = "delete", ""
            step["query"] = {key: value for key, value in urllib.parse.parse_qsl(query)}
            step["query"]["ids"] = len(step["query"]["ids"].split(","))
        elif request["method"] == "POST" and path.endswith("/jobs/ingest"):
            name, step["body"] = "make", json.loads(body)
        elif request["method"] == "PUT":
            name, step["rows"] = "upload", csv_rows(body)
        elif request["method"] == "PATCH":
            name, step["body"] = "close", json.loads(body)
        elif path.endswith("/successfulResults"):
            name, step["content_type"] = "results", ""
        elif "/jobs/ingest/" in path and request["method"] == "GET" and path.endswith("{job}"):
            name, step["content_type"] = "look", ""
        else:
            continue
        found[name] = step
    return found


def by_key(body):
    records = {record.pop("External_Id__c"): record for record in body.pop("records")}
    return {**body, "records": records}


def csv_rows(text):
    """Rows by key; an empty cell says nothing."""
    rows = csv.DictReader(io.StringIO(text, newline=""))
    return {row.pop("External_Id__c"): {name: cell for name, cell in row.items() if cell} for row in rows}


def flat(value, at=""):
    if isinstance(value, dict):
        for name, member in value.items():
            yield from flat(member, f"{at}.{name}" if at else str(name))
    else:
        yield at, value


def compare(client, case, ours, theirs):
    wrong = 0
    for step, their in theirs.items():
        our = dict(flat(ours.get(step, {})))
        their = dict(flat(their))
        same, known = 0, []
        for part in sorted(our.keys() | their.keys()):
            if our.get(part) == their.get(part):
                same += 1
            elif why := KNOWN.get((client, step, part)):
                known.append(f"{part} ({why})")
            else:
                wrong += 1
                print(f"    DIFFERENT {step}.{part}: ours {our.get(part)!r}, theirs {their.get(part)!r}")
        print(f"  {client:18} {case:12} {step:8} {same:3} parts the same" + (f"; known: {'; '.join(known)}" if known else ""))
    return wrong


def main():
    binary, node = sys.argv[1:]
    wrong = 0
    for case, clients in {"collections": ["jsforce"], "bulk": ["jsforce", "simple-salesforce"]}.items():
        recorded = {}
        for client in ["penstock", *clients]:
            with tempfile.TemporaryDirectory() as folder:
                folder = pathlib.Path(folder)
                twin = Twin(binary, folder)
                try:
                    if client == "penstock":
                        penstock(binary, twin, case, folder)
                    elif client == "jsforce":
                        subprocess.run(["node", HERE / "jsforce.mjs", twin.address, TOKEN, case, ROWS], check=True,
                                       env={**os.environ, "PROOF_NODE": node})
                    else:
                        subprocess.run([sys.executable, HERE / "simple.py", twin.address, TOKEN, ROWS], check=True)
                finally:
                    requests = twin.end()
                recorded[client] = steps(requests)
        for client in clients:
            wrong += compare(client, case, recorded["penstock"], recorded[client])
    print("no unknown difference" if wrong == 0 else f"{wrong} differences")
    sys.exit(wrong != 0)


main()
