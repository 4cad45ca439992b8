"""Delivers the rows as simple-salesforce does: simple.py ADDRESS TOKEN ROWS. It has bulk jobs, and no collections."""

import json
import sys

import requests
from simple_salesforce import Salesforce


class Plain(requests.adapters.HTTPAdapter):
    """The client knows https only; the twin listens on loopback without."""

    def send(self, request, **options):
        request.url = request.url.replace("https://", "http://", 1)
        return super().send(request, **options)

    def get_connection_with_tls_context(self, request, verify, proxies=None, cert=None):
        return self.poolmanager.connection_from_url(request.url)


address, token, rows = sys.argv[1:]
session = requests.Session()
session.mount("https://", Plain())
client = Salesforce(instance=address.removeprefix("http://"), session_id=token, session=session, version="67.0")
records = [
    {
        "External_Id__c": str(row["id"]), "LastName": row["last_name"], "Email": row["email"], "Phone": row["phone"],
        "Lifetime_Value__c": row["lifetime_value"], "Newsletter__c": str(row["newsletter"]).lower(),
        "Birthdate": row["birthdate"], "Last_Order__c": row["last_order"], "Segment__c": row["segment"] or "#N/A",
        "Account.External_Id__c": row["account"],
    }
    for row in json.load(open(rows, encoding="utf-8"))
]
results = client.bulk2.Contact.upsert(records=records, external_id_field="External_Id__c", wait=1)
assert results[0]["numberRecordsFailed"] == 0 and results[0]["numberRecordsProcessed"] == len(records), results
client.bulk2.Contact.get_successful_records(results[0]["job_id"])
