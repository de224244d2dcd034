"""How long a search takes among many records of one institute, and how many requests to AWS, on the local AWS.

Run it beside `sluice local up`, in a checkout, with boto3 (cli/local/requirements-test.txt):

    cargo run -- local up
    python3 tests/benches/find/find.py --records 200000

It makes an institute, its user and its records, and asks the API as that user. The number of requests is what the worker logs.
"""

import argparse
import concurrent.futures
import configparser
import datetime
import hashlib
import json
import pathlib
import random
import statistics
import sys
import time
import urllib.parse
import urllib.request
import uuid

import boto3

SYSTEMS = [("HIS", "WARD1"), ("LAB", "CENTRAL"), ("RIS", "XRAY")]
TYPES = [("ADT", "A01"), ("ADT", "A08"), ("ORU", "R01"), ("ORM", "O01")]


def record(institute, n, start):
    """The catalog's record of the nth stored message."""
    at = (start + datetime.timedelta(seconds=n)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    message_id = hashlib.sha256(f"{institute} {n}".encode()).hexdigest()
    (application, facility), (kind, event) = SYSTEMS[n % 3], TYPES[n % 4]
    prefix, day = f"source={institute}/protocol=hl7v2", at[:10]
    summary = {"messageType": kind, "triggerEvent": event, "controlId": f"C{n}", "hl7Version": "2.5.1", "messageTime": "20261121072107",
               "sendingApplication": application, "sendingFacility": facility, "receivingApplication": "LAKE"}
    texts = {
        "source": institute, "message_id": message_id, "received_at": at, "stored_at": at, "status": "stored", "state": "parsed",
        # The partition of the index by arrival (crates/domain/src/arrivals.rs).
        "arrival_shard": f"{institute}#{int(message_id[0], 16) % 4}", "listed": "stored",
        "control_id_at": f"C{n}\t{at}", "claim_submission": "01KAJ3X4Q0ZV6R8N2M5T7W9YBC", "bucket": "lake", "version_id": "v1",
        "key": f"{prefix}/format=er7/zone=ingest/date={day}/{message_id}.hl7", "json_version_id": "v2",
        "json_key": f"{prefix}/format=json/zone=staging/date={day}/{message_id}.json.gz"}
    item = {name: {"S": value} for name, value in texts.items()}
    return {**item, "submissions": {"N": "1"}, "summary": {"M": {name: {"S": value} for name, value in summary.items()}}}


def entry(item):
    """An entry of the index by patient for the record, of a patient whom nobody asks for."""
    at, message_id = item["received_at"]["S"], item["message_id"]["S"]
    patient = hashlib.sha256(message_id.encode()).hexdigest()
    return {"source": item["source"], "patient_at": {"S": f"{patient}\t{at}\t{message_id}"}}


def wait(what, done, seconds=180):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            sys.exit(f"waited {seconds} s for {what}")
        time.sleep(0.1)


class Deployment:
    def __init__(self, folder):
        self.outputs = json.loads((folder / "outputs.json").read_text())
        keys = configparser.ConfigParser(interpolation=None)
        keys.read(folder / "credentials")
        root = keys["default"]
        self.root = boto3.Session(root["aws_access_key_id"], root["aws_secret_access_key"], region_name=self.outputs["region"])

    def client(self, service):
        return self.root.client(service, endpoint_url=self.outputs["endpointUrl"])

    def fill(self, institute, count):
        """Makes so many records, and as many entries of the index by patient."""
        start = datetime.datetime(2026, 1, 1)
        records = [record(institute, n, start) for n in range(count)]
        self.write(self.outputs["table"], records)
        self.write(self.outputs["stackOutputs"]["PatientTableName"], [entry(it) for it in records])

    def write(self, table, items):
        dynamodb = self.client("dynamodb")

        def write(first):
            requests = [{"PutRequest": {"Item": item}} for item in items[first:first + 25]]
            while requests:
                requests = dynamodb.batch_write_item(RequestItems={table: requests})["UnprocessedItems"].get(table)

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for _ in pool.map(write, range(0, len(items), 25)):
                pass

    def account(self, institute, *more):
        """The address and the password of a new user who may read the institute's messages, with more attributes."""
        idp, pool = self.client("cognito-idp"), self.outputs["userPoolId"]
        email, password = f"{uuid.uuid4()}@bench.example", f"Aa1!{uuid.uuid4()}"
        idp.admin_create_user(UserPoolId=pool, Username=email, MessageAction="SUPPRESS", UserAttributes=[
            {"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"},
            {"Name": "custom:read", "Value": institute}, *more])
        idp.admin_set_user_password(UserPoolId=pool, Username=email, Password=password, Permanent=True)
        return email, password

    def user(self, institute):
        """An ID token of a new user who may read and write the institute's messages."""
        email, password = self.account(institute, {"Name": "custom:write", "Value": institute})
        answer = self.client("cognito-idp").initiate_auth(ClientId=self.outputs["clientId"], AuthFlow="USER_PASSWORD_AUTH",
                                   AuthParameters={"USERNAME": email, "PASSWORD": password})
        return answer["AuthenticationResult"]["IdToken"]

    def request(self, token, path, body=None, content_type="application/json"):
        """The answer to a GET, or to a POST of the body."""
        headers = {"Authorization": token, "Accept": "application/json", **({"Content-Type": content_type} if body else {})}
        request = urllib.request.Request(self.outputs["apiUrl"] + path, body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def ask(self, token, patient=None, **query):
        """The milliseconds, and the answer."""
        began = time.perf_counter()
        if patient:
            page = self.request(token, "/er7/search", json.dumps({"patient": patient}).encode())
        else:
            page = self.request(token, f"/er7?{urllib.parse.urlencode(query)}")
        return (time.perf_counter() - began) * 1000, page

    def store(self, token, institute, patient, size=0):
        """Sends a message about a patient, of at least so many bytes, and waits until the lake has it."""
        text = (f"MSH|^~\\&|HIS|WARD1|LAKE|SLUICE|20260101||ADT^A01^ADT_A01|{uuid.uuid4()}|P|2.5.1\rEVN|A01|20260101\r"
                f"PID|1||{patient}^^^WARD1^MR||BENCH^ONE\rPV1|1|I\rNTE|1||")
        body = text.ljust(size - 1, "x") + "\r"
        message_id = self.request(token, "/er7", body.encode(), "application/hl7-v2; charset=utf-8")["messageId"]
        key, table = {"source": {"S": institute}, "message_id": {"S": message_id}}, self.outputs["table"]
        get = self.client("dynamodb").get_item
        wait("a message to be stored", lambda: get(TableName=table, Key=key)["Item"]["status"]["S"] == "stored")

    def requests(self, since, institute):
        """The requests to DynamoDB of each invocation of fetch for the institute since a time, according to the worker's own lines."""
        function = self.outputs["stackOutputs"]["FetchFunctionName"]
        pages = self.client("logs").get_paginator("filter_log_events").paginate(
            logGroupName=f"/aws/lambda/{function}", startTime=since, filterPattern=f'"{institute}"')
        lines = [json.loads(event["message"]) for page in pages for event in page["events"] if event["message"].startswith("{")]
        return [sum(request["operation"] == "Query" for request in line["awsRequests"]) for line in lines]


def measure(deployment, institute, token, name, queries):
    since, times, found = int(time.time() * 1000), [], 0
    for query in queries:
        milliseconds, page = deployment.ask(token, **query)
        times.append(milliseconds)
        found += len(page["messages"])
    requests = deployment.requests(since, institute)
    p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[18]
    print(f"| {name} | {len(times)} | {found} | p50 {p50:.0f} ms, p95 {p95:.0f} ms | {max(requests, default=0)} |", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--records", type=int, default=200_000)
    arguments.add_argument("--times", type=int, default=200)
    arguments.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/local"))
    given = arguments.parse_args()
    deployment, institute = Deployment(given.folder), f"bench-{uuid.uuid4().hex[:8]}"
    began = time.monotonic()
    deployment.fill(institute, given.records)
    print(f"{given.records} records of {institute} in {time.monotonic() - began:.0f} s\n", flush=True)
    token, numbers = deployment.user(institute), random.Random(1)
    deployment.ask(token, limit=1)
    print("| by | searches | found | time | most requests to DynamoDB for an answer |\n|---|---|---|---|---|")
    some = [numbers.randrange(given.records) for _ in range(given.times)]
    ids = [hashlib.sha256(f"{institute} {n}".encode()).hexdigest() for n in some]
    patients = [f"P{n}" for n in range(10)]
    for patient in patients:
        deployment.store(token, institute, patient)
    measure(deployment, institute, token, "patient", [{"patient": numbers.choice(patients)} for _ in some])
    measure(deployment, institute, token, "control id", [{"controlId": f"C{n}"} for n in some])
    measure(deployment, institute, token, "control id that no message has", [{"controlId": f"D{n}"} for n in some])
    measure(deployment, institute, token, "first 8 digits of the id", [{"idPrefix": it[:8]} for it in ids])
    measure(deployment, institute, token, "newest 50", [{}] * given.times)
    measure(deployment, institute, token, "sender that no message has", [{"sender": "NOBODY"}] * 10)


if __name__ == "__main__":
    main()
