"""Requests over the loopback interface."""

from .test_support import BUCKET, OBJECT, allow, allowed, deny


def test_loopback_counts_as_secure_transport(world):
    s3 = world.s3("alice", allow("s3:ListBucket", OBJECT))
    for secure, expected in (("false", True), ("true", False)):
        with world.bucket_policy({**deny("s3:*", [OBJECT, f"{OBJECT}/*"], Bool={"aws:SecureTransport": secure}),
                                  "Principal": "*"}):
            assert allowed(s3.list_objects_v2, Bucket=BUCKET) is expected
