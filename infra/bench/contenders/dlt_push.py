"""dlt as its page on reverse ETL has it: a function that is a destination, and a resource of Arrow tables.

python dlt_push.py FILE ADDRESS ROWS_PER_REQUEST WORKERS FOLDER [cursor]
"""

import http.client
import os
import sys
import threading
import urllib.parse

import pyarrow.parquet as pq

file, address, per_request, workers, folder = sys.argv[1:6]
per_request, workers, cursor = int(per_request), int(workers), sys.argv[6:] == ["cursor"]
# Several files for several workers: a job is a file, and its batches are sent one after the other.
rows_per_job = 5000
if workers > 1:
    rows_per_job = max(100, -(-pq.ParquetFile(file).metadata.num_rows // workers))
    os.environ["DATA_WRITER__FILE_MAX_ITEMS"] = str(rows_per_job)
    os.environ["DATA_WRITER__BUFFER_MAX_ITEMS"] = str(rows_per_job)
os.environ["LOAD__WORKERS"] = str(workers)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt
from dlt.common.json import json

local = threading.local()
to = urllib.parse.urlsplit(address)


def post(body):
    # The standard library's client takes less CPU than requests.
    if not hasattr(local, "connection"):
        local.connection = http.client.HTTPConnection(to.hostname, to.port)
    local.connection.request("POST", to.path, json.dumpb(body), {"Content-Type": "application/json"})
    answer = local.connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise RuntimeError(f"status {answer.status}")


@dlt.destination(
    batch_size=100,
    loader_file_format="parquet",
    name="sink",
    max_parallel_load_jobs=workers,
    loader_parallelism_strategy="parallel" if workers > 1 else "sequential",
)
def sink(items, table):
    rows = items.to_pylist()
    if per_request > 1:
        post({"records": rows})
    else:
        for row in rows:
            post(row)


def batches(updated_at=dlt.sources.incremental("updated_at") if cursor else None):
    for batch in pq.ParquetFile(file).iter_batches(rows_per_job):
        yield batch


pipeline = dlt.pipeline("orders", pipelines_dir=folder, destination=sink())
pipeline.run(dlt.resource(batches, name="orders"), loader_file_format="parquet").raise_on_failed_jobs()
