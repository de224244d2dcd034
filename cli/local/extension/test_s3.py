"""The condition keys of S3, the names of objects, and their tags."""

import base64
import contextlib
import functools
import hashlib
import http.client
import time

import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import ClientError

from .test_support import BUCKET, OBJECT, allow, allowed, deny, tag_set

OWN = f"{OBJECT}/source=${{aws:PrincipalTag/write}}/*"
OWN_TAG = {"s3:RequestObjectTag/source": "${aws:PrincipalTag/write}"}
WRITER = allow(["s3:PutObject", "s3:PutObjectTagging"], OWN, StringEquals=OWN_TAG)
WRITE = allow("s3:PutObject", f"{OBJECT}/*")
READER = allow(["s3:GetObject", "s3:GetObjectVersion"], f"{OBJECT}/source=${{aws:PrincipalTag/read}}/*",
               StringEquals={"s3:ExistingObjectTag/source": "${aws:PrincipalTag/read}"})


@pytest.mark.parametrize("user, prefix, tags, expected", [
    ("alice", "source=a/", "source=a", True),
    ("alice", "source=a/", "source=b", False),
    ("alice", "source=a/", "", False),
    ("alice", "source=a/", "source=", False),
    ("alice", "source=a/", "other=a", False),
    ("alice", "source=a/", "source=a&SOURCE=b", False),
    ("alice", "source=b/", "source=a", False),
    ("alice", "source=b/", "source=b", False),
    ("reader", "source=a/", "source=a", False),
    ("blank", "source=/", "source=", False),
    ("blank", "source=a/", "source=a", False),
])
def test_put_object_request_tag(world, user, prefix, tags, expected):
    s3 = world.s3(user, WRITER)
    assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key(prefix), Body=b"x", Tagging=tags) is expected


def test_put_object_request_tag_of_a_presigned_url(world):
    s3 = world.client("s3", world.session("alice", WRITER), signature_version="s3v4")
    for tags, status in (("source=a", 200), ("source=b", 403)):
        url = s3.generate_presigned_url("put_object", Params={
            "Bucket": BUCKET, "Key": world.key("source=a/"), "Tagging": tags})
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
        headers = {} if "x-amz-tagging=" in url.lower() else {"x-amz-tagging": tags}
        connection.request("PUT", url.removeprefix(world.endpoint), body=b"x", headers=headers)
        answer = connection.getresponse()
        assert answer.status == status, (url, answer.read())


@pytest.fixture
def upload(world):
    """PUT of b"upload" by a URL that binds the bytes, with what a caller may change about it."""
    checksum = base64.b64encode(hashlib.sha256(b"upload").digest()).decode()
    signed = {"content-length": "6", "if-none-match": "*", "x-amz-checksum-sha256": checksum}

    def put(key, body=b"upload", policy=WRITE, expires=900, **changes):
        session = world.session("alice", policy)
        credentials = session.get_credentials().get_frozen_credentials()
        request = AWSRequest("PUT", f"{world.endpoint}/{BUCKET}/{key}", headers=signed)
        S3SigV4QueryAuth(credentials, "s3", "eu-west-1", expires=expires).add_auth(request)
        if expires < 2:
            time.sleep(expires + 1.5)
        sent = {name: value for name, value in {**signed, **changes}.items() if value is not None}
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
        connection.request("PUT", request.url.removeprefix(world.endpoint), body=body, headers=sent)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    return put


def test_a_presigned_put_takes_the_signed_bytes_once(world, upload):
    key = world.key("u")
    assert upload(key) == 200
    assert world.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"upload"
    assert upload(key) == 412


@pytest.mark.parametrize("status, change", [
    (400, {"body": b"others"}),
    (403, {"body": b"longer bytes", "content-length": "12"}),
    (403, {"body": b"", "content-length": "0"}),
    (403, {"x-amz-checksum-sha256": base64.b64encode(hashlib.sha256(b"others").digest()).decode(), "body": b"others"}),
    (403, {"x-amz-checksum-sha256": None}),
    (403, {"if-none-match": None}),
    (403, {"if-none-match": '"etag"'}),
    (403, {"policy": allow("s3:PutObject", f"{OBJECT}/elsewhere/*")}),
    (403, {"expires": 1}),
])
def test_a_presigned_put_refuses_everything_else(world, upload, status, change):
    key = world.key("u")
    assert upload(key, **change) == status
    with pytest.raises(ClientError, match="NoSuchKey"):
        world.client("s3").get_object(Bucket=BUCKET, Key=key)


def test_put_object_with_tags_needs_put_object_tagging(world):
    s3 = world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*"))
    assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("p"), Body=b"x")
    assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("p"), Body=b"x", Tagging="k=v")


@pytest.mark.parametrize("header", [{"ACL": "private"}, {"ObjectLockLegalHoldStatus": "ON"}])
def test_put_object_headers_need_their_action(world, header):
    put = {"Bucket": BUCKET, "Key": world.key("h"), "Body": b"x", **header}
    assert not allowed(world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*")).put_object, **put)
    both = world.s3("alice", allow(["s3:PutObject", "s3:PutObjectAcl", "s3:PutObjectLegalHold"], f"{OBJECT}/*"))
    with contextlib.suppress(ClientError) if "ACL" not in header else contextlib.nullcontext():
        assert allowed(both.put_object, **put)


@pytest.mark.parametrize("tags, expected", [({"source": "a"}, True), ({"source": "b"}, False), ({}, False)])
def test_put_object_tagging_request_tag(world, tags, expected):
    key = world.key("source=a/")
    world.put(key, tags="source=a")
    s3 = world.s3("alice", WRITER)
    assert allowed(s3.put_object_tagging, Bucket=BUCKET, Key=key, Tagging=tag_set(**tags)) is expected


def test_object_of_another_cannot_be_retagged_and_read(world):
    key = world.key("source=b/")
    world.put(key, tags="source=b")
    s3 = world.s3("alice", WRITER, READER)
    assert not allowed(s3.put_object_tagging, Bucket=BUCKET, Key=key, Tagging=tag_set(source="a"))
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=key)


def test_request_tag_keys(world):
    s3 = world.s3("alice", allow(["s3:PutObject", "s3:PutObjectTagging"], f"{OBJECT}/*", **{
        "ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["source", "kind"]}}))
    put = functools.partial(allowed, s3.put_object, Bucket=BUCKET, Body=b"x")
    assert put(Key=world.key("k"), Tagging="source=a")
    assert put(Key=world.key("k"), Tagging="source=a&kind=b")
    assert not put(Key=world.key("k"), Tagging="source=a&more=b")


def test_existing_tag_of_reads(world):
    own, other = world.key("source=a/"), world.key("source=a/")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", READER)
    for call in (s3.get_object, s3.head_object):
        assert allowed(call, Bucket=BUCKET, Key=own)
        assert not allowed(call, Bucket=BUCKET, Key=other)


def test_existing_tag_is_that_of_the_version(world):
    key = world.key("source=a/")
    first = world.put(key, tags="source=b")
    second = world.put(key, tags="source=a")
    s3 = world.s3("alice", READER)
    assert allowed(s3.get_object, Bucket=BUCKET, Key=key, VersionId=second)
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=key, VersionId=first)


def test_version_needs_its_own_action(world):
    key = world.key("v")
    version = world.put(key)
    latest = world.s3("alice", allow("s3:GetObject", f"{OBJECT}/*"))
    assert allowed(latest.get_object, Bucket=BUCKET, Key=key)
    assert not allowed(latest.get_object, Bucket=BUCKET, Key=key, VersionId=version)
    named = world.s3("alice", allow("s3:GetObjectVersion", f"{OBJECT}/*", StringEquals={"s3:VersionId": version}))
    assert allowed(named.get_object, Bucket=BUCKET, Key=key, VersionId=version)
    assert not allowed(named.get_object, Bucket=BUCKET, Key=key, VersionId=world.put(key))


def test_existing_tag_of_tagging(world):
    own, other = world.key("t"), world.key("t")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", allow(["s3:GetObjectTagging", "s3:PutObjectTagging", "s3:DeleteObjectTagging"],
                                 f"{OBJECT}/*", StringEquals={"s3:ExistingObjectTag/source": "a"}))
    for call, more in ((s3.get_object_tagging, {}), (s3.put_object_tagging, {"Tagging": tag_set(source="a")}),
                       (s3.delete_object_tagging, {})):
        assert allowed(call, Bucket=BUCKET, Key=own, **more)
        assert not allowed(call, Bucket=BUCKET, Key=other, **more)


def test_existing_tag_is_no_key_of_put_object(world):
    key = world.key("e")
    world.put(key, tags="source=a")
    conditioned = world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*",
                                          StringEquals={"s3:ExistingObjectTag/source": "a"}))
    assert not allowed(conditioned.put_object, Bucket=BUCKET, Key=key, Body=b"y")
    assert allowed(world.s3("alice", allow("s3:PutObject", f"{OBJECT}/*")).put_object, Bucket=BUCKET, Key=key, Body=b"")


def test_copy_reads_its_source(world):
    own, other = world.key("source=a/"), world.key("source=a/")
    world.put(own, tags="source=a")
    world.put(other, tags="source=b")
    s3 = world.s3("alice", WRITER, READER)
    copy = functools.partial(allowed, s3.copy_object, Bucket=BUCKET, Key=world.key("source=a/"), Tagging="source=a",
                             TaggingDirective="REPLACE")
    assert copy(CopySource={"Bucket": BUCKET, "Key": own})
    assert not copy(CopySource={"Bucket": BUCKET, "Key": other})
    assert not allowed(s3.copy_object, Bucket=BUCKET, Key=world.key("source=a/"), Tagging="source=b",
                       TaggingDirective="REPLACE", CopySource={"Bucket": BUCKET, "Key": own})
    foreign = world.put(own, tags="source=b")
    mine = world.put(own, tags="source=a")
    assert copy(CopySource={"Bucket": BUCKET, "Key": own, "VersionId": mine})
    assert not copy(CopySource={"Bucket": BUCKET, "Key": own, "VersionId": foreign})


def test_copy_that_keeps_tags_needs_the_tagging_actions(world):
    source = world.key("c")
    world.put(source, tags="source=a")
    copy = {"Bucket": BUCKET, "Key": world.key("c"), "CopySource": {"Bucket": BUCKET, "Key": source}}
    needed = ["s3:GetObject", "s3:PutObject", "s3:GetObjectTagging", "s3:PutObjectTagging"]
    assert allowed(world.s3("alice", allow(needed, f"{OBJECT}/*")).copy_object, **copy)
    for missing in needed:
        less = [action for action in needed if action != missing]
        assert not allowed(world.s3("alice", allow(less, f"{OBJECT}/*")).copy_object, **copy)


def test_multipart_upload_request_tag(world):
    s3 = world.s3("alice", WRITER)
    create = functools.partial(allowed, s3.create_multipart_upload, Bucket=BUCKET, Key=world.key("source=a/"))
    assert create(Tagging="source=a")
    assert not create(Tagging="source=b")


def test_bucket_policy_that_requires_a_tag(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    with world.bucket_policy({**deny("s3:PutObject", f"{OBJECT}/*", Null={"s3:RequestObjectTag/source": "true"}),
                              "Principal": "*"}):
        assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x", Tagging="source=a")
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x")


def test_bucket_policy_that_refuses_customer_keys(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    header = "s3:x-amz-server-side-encryption-customer-algorithm"
    with world.bucket_policy({**deny("s3:PutObject", f"{OBJECT}/*", Null={header: "false"}), "Principal": "*"}):
        assert allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x")
        key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "0123456789abcdef0123456789abcdef"}
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=world.key("n"), Body=b"x", **key)


def test_bucket_policy_that_enforces_write_once(world):
    s3 = world.s3("alice", allow("s3:*", f"{OBJECT}/*"))
    once = {**deny("s3:PutObject", f"{OBJECT}/*", Null={"s3:if-none-match": "true"},
                   Bool={"s3:ObjectCreationOperation": "true"}), "Principal": "*"}
    source = world.key("w")
    world.put(source)
    with world.bucket_policy(once):
        key = world.key("w")
        assert not allowed(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x")
        assert allowed(s3.put_object, Bucket=BUCKET, Key=key, Body=b"x", IfNoneMatch="*")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.put_object(Bucket=BUCKET, Key=key, Body=b"y", IfNoneMatch="*")
        assert not allowed(s3.copy_object, Bucket=BUCKET, Key=world.key("w"),
                           CopySource={"Bucket": BUCKET, "Key": source})
        upload = {"Bucket": BUCKET, "Key": world.key("w")}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        part = s3.upload_part(**upload, PartNumber=1, Body=b"x")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        assert not allowed(s3.complete_multipart_upload, **upload, MultipartUpload=parts)
        assert allowed(s3.complete_multipart_upload, **upload, MultipartUpload=parts, IfNoneMatch="*")


def test_slashes_are_part_of_a_key(world):
    s3 = world.s3("alice", WRITER, READER)
    put = functools.partial(allowed, s3.put_object, Bucket=BUCKET, Body=b"x", Tagging="source=a")
    key = world.key("source=a//")
    assert put(Key=key)
    assert allowed(s3.get_object, Bucket=BUCKET, Key=key)
    assert put(Key="source=a/")
    assert not put(Key=f"/{key}")
    world.put(f"/{key}", tags="source=a")
    assert not allowed(s3.get_object, Bucket=BUCKET, Key=f"/{key}")
    attributes = functools.partial(
        allowed, world.s3("alice", allow("s3:GetObject*", f"{OBJECT}/source=a/*")).get_object_attributes,
        Bucket=BUCKET, ObjectAttributes=["ETag"])
    assert attributes(Key=key)
    assert not attributes(Key=f"/{key}")


def test_a_tag_that_is_named_twice(world):
    s3 = world.s3("alice", WRITER)
    put = functools.partial(s3.put_object, Bucket=BUCKET, Key=world.key("source=a/"), Body=b"x")
    assert put(Tagging="source=a&other=a")
    for twice in ("source=a&source=b", "source=a&sou%72ce=b", "source=a&source=a"):
        with pytest.raises(ClientError, match="InvalidArgument"):
            put(Tagging=twice)


def test_anonymous_requests_are_refused(world):
    key = world.key("anonymous")
    world.put(key)

    def get(headers):
        connection = http.client.HTTPConnection(world.endpoint.removeprefix("http://"))
        connection.request("GET", f"/{BUCKET}/{key}", headers=headers)
        return connection.getresponse().status
    assert get({}) == 403
    assert world.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read() == b"x"


def test_a_read_of_a_version_has_the_headers_that_it_asks_for(world):
    key, s3 = world.key("source=a/"), world.client("s3")
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", ContentType="application/gzip")["VersionId"]
    for named in ({"VersionId": version}, {}):
        found = s3.get_object(Bucket=BUCKET, Key=key, **named)
        assert (found["ContentType"], found.get("ContentEncoding")) == ("application/gzip", None)
        found = s3.get_object(Bucket=BUCKET, Key=key, ResponseContentType="application/json", ResponseContentEncoding="gzip", **named)
        assert (found["ContentType"], found["ContentEncoding"]) == ("application/json", "gzip")


def test_the_tags_of_a_version_are_read_below_a_delete_marker(world):
    key, s3 = world.key("source=a/"), world.client("s3")
    version = s3.put_object(Bucket=BUCKET, Key=key, Body=b"x", Tagging="source=a")["VersionId"]
    s3.delete_object(Bucket=BUCKET, Key=key)
    found = s3.get_object_tagging(Bucket=BUCKET, Key=key, VersionId=version)
    assert found["TagSet"] == [{"Key": "source", "Value": "a"}]
    for named in ({}, {"VersionId": "0" * 32}):
        with pytest.raises(ClientError):
            s3.get_object_tagging(Bucket=BUCKET, Key=key, **named)
    assert "Contents" not in s3.list_objects_v2(Bucket=BUCKET, Prefix=key)
