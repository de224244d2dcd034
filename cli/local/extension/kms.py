"""KMS: the condition keys of an encryption context."""

import json

from .keys import one_or_many
from .replacing import wrap
from .requests import served


def kms_condition_keys():
    """KMS requests carry kms:EncryptionContext:<key> and kms:EncryptionContextKeys.

    AWS, "AWS KMS condition keys": they hold the encryption context of a cryptographic operation. Encryption contexts
    are case-sensitive, but condition key names are not.
    """
    from ministack.core import iam_evaluator

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "kms":
                try:
                    given = json.loads(served.get()[1] or b"{}").get("EncryptionContext") or {}
                    keys = {f"kms:encryptioncontext:{name}".lower(): value for name, value in given.items()}
                except (ValueError, AttributeError):  # A malformed request, which the handler refuses.
                    given, keys = {}, {}
                if given:
                    service_context = {**(service_context or {}), **keys,
                                       "kms:encryptioncontextkeys": one_or_many(given)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_evaluator, "enforce", make_enforce)
