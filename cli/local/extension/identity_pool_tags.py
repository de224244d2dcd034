"""Identity pools: the principal tags of the credentials, and the trust policy of their role."""

import json

from .identity_pool import setting_name
from .replacing import wrap

# The tags of a user pool provider with UseDefaults, as tag name: claim.
USER_POOL_DEFAULT_TAGS = {"username": "sub", "client": "aud"}


def session_tags(cognito, pool, logins):
    """The session tags of these logins: per provider name, the mapped claims that the token has.

    A claim that is missing, or that is not a single value, gives no tag; an empty claim gives an empty tag.
    """
    tags = {}
    for provider, token in logins.items():
        mapping = (pool.get("_principal_tags") or {}).get(setting_name(pool, provider))
        if not mapping:
            continue
        if mapping.get("UseDefaults"):
            names = USER_POOL_DEFAULT_TAGS if provider.startswith("cognito-idp.") else {}
        else:
            names = mapping.get("PrincipalTags") or {}
        claims = cognito._token_claims(token)
        for tag, claim in names.items():
            value = claims.get(claim)
            if isinstance(value, bool):
                value = str(value).lower()
            if isinstance(value, (str, int, float)):
                tags[tag] = str(value)
    return tags


def trust_allows(iam, evaluator, session, action):
    """Whether the trust policy of the session's role allows the identity pool this STS action for these logins."""
    role = iam._roles.get(session["Arn"].split("/")[1])
    if role is None:
        return True
    document = role.get("AssumeRolePolicyDocument") or {}
    document = json.loads(document) if isinstance(document, str) else document
    statements = document.get("Statement", [])
    statements = [statements] if isinstance(statements, dict) else statements
    web_identity = "sts:AssumeRoleWithWebIdentity"
    applicable = []
    for statement in statements:
        actions = statement.get("Action", [])
        if evaluator._action_matches(action, [actions] if isinstance(actions, str) else actions, []) and actions:
            # MiniStack matches a Federated principal only with this action.
            applicable.append({**statement, "Action": web_identity})
    context = evaluator.EvalContext(
        principal_arn="cognito-identity.amazonaws.com", principal_type="AssumedRole",
        principal_account=session["AccountId"], action=web_identity, resource_arn="*", region="",
        service_context={
            "cognito-identity.amazonaws.com:aud": session["_identity_pool_id"],
            "cognito-identity.amazonaws.com:amr": session["_cognito_amr"],
            "cognito-identity.amazonaws.com:sub": session["_identity_id"],
        })
    return evaluator.evaluate_trust_policy({"Statement": applicable}, context.principal_arn, context)


def principal_tags():
    """Credentials from GetCredentialsForIdentity carry the pool's principal tags as session tags.

    AWS: "attributes for access control" maps claims of the provider's token to session tags. The role's trust policy
    must allow cognito-identity.amazonaws.com to call sts:AssumeRoleWithWebIdentity, and sts:TagSession when there are
    tags; otherwise the call fails with InvalidIdentityPoolConfigurationException. A pool without unauthenticated
    identities gives none to a caller without a login.
    """
    from ministack.core import iam_evaluator as evaluator
    from ministack.core.responses import error_response_json
    from ministack.services import cognito, iam, sts

    class TrustRefused(Exception):
        pass

    def make_register(original):
        def register_session(access_key, session):
            pool = cognito._identity_pools.get(session.get("_identity_pool_id") or "")
            if pool is not None:
                tags = session_tags(cognito, pool, session.get("_logins") or {})
                session["SessionTags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
                for action in ("sts:AssumeRoleWithWebIdentity", "sts:TagSession" if tags else None):
                    if action and not trust_allows(iam, evaluator, session, action):
                        raise TrustRefused
            return original(access_key, session)
        return register_session

    def make_credentials(original):
        def get_credentials_for_identity(data):
            try:
                return original(data)
            except TrustRefused:
                return error_response_json(
                    "InvalidIdentityPoolConfigurationException",
                    "Invalid identity pool configuration. Check assigned IAM roles for this pool.", 400)
        return get_credentials_for_identity

    def make_get_id(original):
        def get_id(data):
            pool = cognito._identity_pools.get(data.get("IdentityPoolId")) or {}
            if pool.get("AllowUnauthenticatedIdentities") is False and not data.get("Logins"):
                return error_response_json(
                    "NotAuthorizedException", "Unauthenticated access is not supported for this identity pool.", 400)
            return original(data)
        return get_id

    wrap(sts, "register_session", make_register)
    wrap(cognito, "_get_credentials_for_identity", make_credentials)
    wrap(cognito, "_get_id", make_get_id)
