"""Identity pools: the tokens that they accept and give."""

import time

from .replacing import wrap


def setting_name(pool, provider):
    """The name of a login's provider in an identity pool's settings: for an OpenID Connect provider of IAM its ARN,
    for any other the name in the login."""
    arns = pool.get("OpenIdConnectProviderARNs") or []
    return next((arn for arn in arns if arn.partition(":oidc-provider/")[2] == provider), provider)


def server_side_token_check():
    """An identity pool asks the user pool about the user of a token if the provider has ServerSideTokenCheck.

    AWS: a user who was signed out everywhere, disabled or deleted gets neither an identity nor credentials for an
    earlier token, although its signature and its time are valid. The text of the refusal is ours.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import cognito

    def is_revoked(claims):
        pool = cognito._user_pools.get(str(claims.get("iss", "")).rsplit("/", 1)[-1]) or {"_users": {}}
        # Other requests may add users meanwhile.
        for user in list(pool["_users"].values()):
            if cognito._attr_list_to_dict(user.get("Attributes", [])).get("sub") == claims.get("sub"):
                return not user.get("Enabled", True) or claims.get("origin_jti") in cognito._revoked_tokens
        return True

    def make_logins_error(original):
        def identity_logins_error(pool, identity_id, logins):
            error = original(pool, identity_id, logins)
            if error:
                return error
            for provider, token in (logins or {}).items():
                claims = cognito._token_claims(token)
                if is_revoked(claims) and any(
                        known.get("ServerSideTokenCheck") and known.get("ProviderName") == provider
                        and known.get("ClientId") == claims.get("aud")
                        for known in pool.get("CognitoIdentityProviders") or []):
                    return error_response_json(
                        "NotAuthorizedException", "Invalid login token. Token has been revoked.", 400)
            return None
        return identity_logins_error

    wrap(cognito, "_identity_logins_error", make_logins_error)


def identity_tokens():
    """The tokens of an identity pool: it gives none if the classic flow is off, and only genuine ones assume a role.

    AWS: GetOpenIdToken belongs to the basic (classic) flow and fails if the pool does not allow that flow.
    AssumeRoleWithWebIdentity verifies the token's signature and expiry before it reads the role's trust policy.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import cognito, sts

    def make_open_id(original):
        def get_open_id_token(data):
            for pool in cognito._identity_pools.values():
                if data.get("IdentityId") in pool["_identities"] and not pool.get("AllowClassicFlow"):
                    return error_response_json("InvalidParameterException",
                                               "Basic (classic) flow is not enabled, please use enhanced flow.", 400)
            return original(data)
        return get_open_id_token

    def make_trust(original):
        def web_identity_trust_denied(role_arn, params, use_json):
            token = sts._p(params, "WebIdentityToken")
            claims = cognito._token_claims(token)
            if claims.get("iss") == "https://cognito-identity.amazonaws.com":
                if not cognito._signature_valid(token):
                    return sts._error(400, "InvalidIdentityToken", "The ID Token provided is not a valid JWT.", ns="sts")
                if time.time() >= claims.get("exp", 0):
                    return sts._error(400, "ExpiredTokenException", "Token expired", ns="sts")
            return original(role_arn, params, use_json)
        return web_identity_trust_denied

    wrap(cognito, "_get_open_id_token", make_open_id)
    wrap(sts, "_web_identity_trust_denied", make_trust)
