"""OpenID Connect providers of IAM, and logins with their tokens."""

import base64
import json
import re
import time
import urllib.request

from .identity_pool import setting_name
from .replacing import wrap

LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost)(:\d+)?(/.*)?")
LARGEST_DOCUMENT = 1 << 20


def fetch_json(url):
    """A provider's document. A provider on this machine is asked without TLS, because nobody trusts its certificate."""
    if LOOPBACK.fullmatch(url):
        url = url.replace("https:", "http:", 1)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    elif url.startswith("https://"):
        opener = urllib.request.build_opener()
    else:
        raise ValueError(f"{url} is no address of a provider's document")
    with opener.open(url, timeout=5) as answer:
        return json.loads(answer.read(LARGEST_DOCUMENT))


def signing_key(issuer, kid):
    """The provider's key with this id, as a JWK. None if there is none or the provider does not answer."""
    try:
        keys = fetch_json(fetch_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")["jwks_uri"])["keys"]
        return next((key for key in keys if kid and key.get("kid") == kid and key.get("kty") == "RSA"), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def openid_connect_logins():
    """A token of an OpenID Connect provider is verified before it counts as a login.

    AWS, Cognito's "OIDC providers": the token's iss must be the name of the login, an RSA key of the provider must
    verify the signature, and azp (or aud without azp) must be one of the provider's client ids in IAM, with five
    minutes of skew. The provider's certificate is not checked here. Its sub is then the user: the same sub has the
    same identity.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import apigateway, cognito, iam

    def provider_of(pool, login):
        arn = setting_name(pool, login)
        return iam._oidc_providers.get(arn) if arn != login else None

    def refusal(known, token):
        claims = cognito._token_claims(token)
        if not claims or token.count(".") != 2:
            return "Invalid login token. Not a valid OpenId Connect identity token."
        if claims.get("iss") != known["Url"]:
            return "Invalid login token. Issuer doesn't match providerName"
        head = token.split(".")[0]
        try:
            head = json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
            algorithm, kid = head.get("alg"), head.get("kid")
        except (ValueError, AttributeError):
            algorithm = kid = None
        key = signing_key(known["Url"], kid) if algorithm == "RS256" else None
        if key is None or not apigateway._verify_rs256_signature(token, key):
            return "Invalid login token. Couldn't verify signed token."
        parties = claims.get("azp", claims.get("aud"))
        if not set(parties if isinstance(parties, list) else [parties]) & set(known["ClientIDList"]):
            return "Invalid login token. Incorrect token audience."
        now = time.time() - cognito._LOGIN_TOKEN_CLOCK_SKEW
        if not isinstance(claims.get("exp"), (int, float)) or now >= claims["exp"]:
            return "Invalid login token. Token expired."
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            return "Invalid login token. Missing a required claim: sub"
        return None

    def make_logins_error(original):
        def identity_logins_error(pool, identity_id, logins):
            error = original(pool, identity_id, logins)
            for login, token in ({} if error else logins or {}).items():
                if setting_name(pool, login) == login:
                    continue
                known = provider_of(pool, login)
                message = refusal(known, token) if known else "IAM has no such provider."
                if message:
                    return error_response_json("NotAuthorizedException", message, 400)
            return error
        return identity_logins_error

    def make_owner(original):
        def login_owner(pool, logins):
            owner = original(pool, logins)
            for login, token in ({} if owner or not isinstance(logins, dict) else logins).items():
                user = provider_of(pool, login) and cognito._token_claims(token).get("sub")
                for identity_id, identity in pool["_identities"].items():
                    held = (identity.get("Logins") or {}).get(login)
                    if user and held and cognito._token_claims(held).get("sub") == user:
                        return identity_id
            return owner
        return login_owner

    wrap(cognito, "_identity_logins_error", make_logins_error)
    wrap(cognito, "_login_owner", make_owner)


def openid_connect_providers_in_templates():
    """AWS::IAM::OIDCProvider is a resource, and its Ref is the provider's ARN. Another Url creates another provider."""
    from ministack.services import iam
    from ministack.services.cloudformation import provisioners

    def create(_id, properties, _stack):
        parameters = {"Url": properties["Url"]}
        for name, values in (("ClientIDList", properties.get("ClientIdList")),
                             ("ThumbprintList", properties.get("ThumbprintList"))):
            parameters.update({f"{name}.member.{n}": value for n, value in enumerate(values or [], start=1)})
        status, _, body = iam._create_oidc_provider(parameters)
        if status >= 400:
            raise ValueError(f"AWS::IAM::OIDCProvider failed: {body!r}")
        arn = next(arn for arn, known in iam._oidc_providers.items() if known["Url"] == properties["Url"])
        return arn, {"Arn": arn}

    def update(arn, old, properties, stack):
        if properties["Url"] != old["Url"]:
            created = create(arn, properties, stack)
            delete(arn, old)
            return created
        iam._oidc_providers[arn].update(ClientIDList=properties.get("ClientIdList") or [],
                                        ThumbprintList=properties.get("ThumbprintList") or [])
        return arn, {"Arn": arn}

    def delete(arn, _properties):
        iam._delete_oidc_provider({"OpenIDConnectProviderArn": arn})

    provisioners._RESOURCE_HANDLERS["AWS::IAM::OIDCProvider"] = {"create": create, "update": update, "delete": delete}
