"""The condition keys of an encryption context."""

import functools

from .test_support import allow, allowed


def test_encryption_context_keys(world):
    key = world.client("kms").create_key()["KeyMetadata"]["Arn"]
    kms = world.client("kms", world.session("alice", allow(["kms:Encrypt", "kms:Decrypt"], key, **{
        "StringEquals": {"kms:EncryptionContext:source": "${aws:PrincipalTag/read}"},
        "ForAllValues:StringEquals": {"kms:EncryptionContextKeys": ["source"]}})))
    encrypt = functools.partial(allowed, kms.encrypt, KeyId=key, Plaintext=b"x")
    assert encrypt(EncryptionContext={"source": "a"})
    assert not encrypt(EncryptionContext={"source": "b"})
    assert not encrypt(EncryptionContext={"source": "a", "more": "x"})
    assert not encrypt()
