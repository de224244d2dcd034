"""The account's root: a key that is a secret, and a signature that is checked."""

import configparser
import os
import secrets

from .replacing import Refused, wrap

# The file with the root's key, in the form of the AWS CLI's credentials file.
CREDENTIALS = "LOCAL_CREDENTIALS"


def root_secret():
    """The root has the key of this start, and signs like everybody else.

    AWS: an access key is a secret, and it signs every request except the few that the service's model marks as
    unsigned. MiniStack recognizes its root by the access key id (`test`, any account's number, none at all) and
    checks no signature of it. It treats an S3 request without a signature as the root's; AWS serves such a request
    only from a public bucket, and we have none.
    """
    from ministack.core import iam_evaluator as evaluator
    from ministack.services import sts

    file = configparser.ConfigParser(interpolation=None)
    try:
        with open(os.environ[CREDENTIALS], encoding="ascii") as text:
            file.read_file(text)
        key, secret = (file["default"][name] for name in ("aws_access_key_id", "aws_secret_access_key"))
    except (OSError, KeyError, configparser.Error) as error:
        raise Refused(f"{CREDENTIALS} names no file with the root's key: {error!r}") from None
    # MiniStack reads its root's key here. Other programs that read this process's environment see none.
    os.environ.update(AWS_ACCESS_KEY_ID=key, AWS_SECRET_ACCESS_KEY=secret)

    def make_is_root(_original):
        # Calls between services within MiniStack have no key. No request from outside reaches this case, see below.
        return lambda access_key_id: not access_key_id or access_key_id == key

    def make_is_unchecked(_original):
        return lambda access_key_id: not access_key_id

    def unsigned(service, action):
        if action in ("execute-api:Invoke", "lambda:InvokeFunctionUrl") or evaluator._served_unsigned(service, action):
            return None
        code = "AccessDenied" if service == "s3" else "MissingAuthenticationToken"
        return evaluator.AuthError(code, "The request is not signed.")

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, *more, **named):
            refused = None if access_key_id else unsigned(service, iam_action)
            return refused or original(access_key_id, iam_action, service, *more, **named)
        return enforce

    def make_check(original):
        def check_credentials(access_key_id, service=None):
            if access_key_id:
                return original(access_key_id, service)
            # Cognito's pages are no actions: a browser brings a provider's answer.
            return None if service == "cognito-idp" else unsigned(service or "", "")
        return check_credentials

    wrap(evaluator, "is_root_access_key", make_is_root)
    wrap(sts, "is_root_access_key", make_is_root)
    wrap(evaluator, "_is_root_key", make_is_unchecked)
    wrap(evaluator, "enforce", make_enforce)
    wrap(evaluator, "check_credentials", make_check)


def function_secrets():
    """Only the function itself can know its credentials: MiniStack would derive them from its ARN and role."""
    from ministack.core import lambda_runtime
    from ministack.services import lambda_svc

    salt = secrets.token_hex(32)

    def make(original):
        def execution_credentials(config):
            # Here the role's path serves only as input of the hash.
            path, _, name = config.get("Role", "").rpartition("/")
            return original({**config, "Role": f"{path}/{salt}/{name}"})
        return execution_credentials

    for module in (lambda_runtime, lambda_svc):
        wrap(module, "execution_credentials", make)
