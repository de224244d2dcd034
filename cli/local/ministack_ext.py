"""The local AWS: MiniStack with the authorization rules it lacks filled in.

Problem. MiniStack verifies signatures and evaluates IAM policies, but it does not give identity-pool credentials
their principal tags, does not substitute policy variables, does not know several S3 and DynamoDB condition keys, and
lets a user write attributes their app client may not write. It gives everybody of an identity pool the same role, and
believes any token of an OpenID Connect provider. The permissions of this project rest on exactly these, so without them
a local run would refuse what AWS allows and allow what AWS refuses. And it lacks what a sign-up and a sign-in rest on:
the post-confirmation trigger, and the sessions that tie a challenge to its user.

Mechanism. Each function named in PATCHES replaces one or two MiniStack functions in memory, then MiniStack starts as
`python -m ministack` would. Nothing on disk changes. A replacement wraps the original wherever that is possible.

Why here. The replacements reach into private functions, so they hold for one version only. Start-up therefore refuses
any other version, and any function that is not where it is expected, instead of running with a rule missing.
"""

import base64
import contextvars
import importlib.metadata
import ipaddress
import json
import random
import re
import socketserver
import sys
import time
import urllib.request
import uuid

MINISTACK_VERSION = "1.5.33"


class Refused(Exception):
    """A condition under which the local AWS must not start."""


def check_version():
    """Refuse any MiniStack other than the one these replacements were written for."""
    try:
        installed = importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError:
        installed = "none"
    if installed != MINISTACK_VERSION:
        raise Refused(f"this needs ministack {MINISTACK_VERSION}, found {installed}: install requirements.txt")


def wrap(module, name, make):
    """Replace module.name by make(original); refuse to start when there is no such function."""
    original = getattr(module, name, None)
    if not callable(original):
        raise Refused(f"ministack {MINISTACK_VERSION} should have {module.__name__}.{name}, but does not")
    setattr(module, name, make(original))


def one_or_many(values):
    """A condition value: a single one as a string, so that plain operators work on it too, several as a list."""
    distinct = list(dict.fromkeys(values))
    return distinct[0] if len(distinct) == 1 else distinct


def by_lower_name(prefix, tags):
    """Condition keys prefix/name for tags. Key names ignore case, so names that differ only in case share one key
    with several values, which no single-valued operator matches."""
    found = {}
    for name, value in tags.items():
        found.setdefault(f"{prefix}/{name}".lower(), []).append(value)
    return {key: one_or_many(values) for key, values in found.items()}


# --- Principal tags ---------------------------------------------------------------------------------------------------

# The map a user pool provider gets with UseDefaults, as tag name: claim.
USER_POOL_DEFAULT_TAGS = {"username": "sub", "client": "aud"}


def setting_name(pool, provider):
    """What an identity pool's settings call the provider of a login: an OpenID Connect provider of IAM by its ARN, any
    other as the login does."""
    arns = pool.get("OpenIdConnectProviderARNs") or []
    return next((arn for arn in arns if arn.partition(":oidc-provider/")[2] == provider), provider)


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
    """Whether the trust policy of the session's role lets the identity pool do this STS action for these logins."""
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
            # Only this action makes MiniStack match a Federated principal.
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


def server_side_token_check():
    """An identity pool asks the user pool about the user of a token, where its provider has ServerSideTokenCheck.

    AWS: a user who was signed out everywhere, disabled or deleted gets neither an identity nor credentials for a token
    from before, although its signature and its time are good. The text of the refusal is ours.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import cognito

    def is_revoked(claims):
        pool = cognito._user_pools.get(str(claims.get("iss", "")).rsplit("/", 1)[-1]) or {"_users": {}}
        for user in pool["_users"].values():
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


# --- Which role -------------------------------------------------------------------------------------------------------

_custom_role = contextvars.ContextVar("sluice_custom_role", default=None)

RULE_MATCHES = {
    "Equals": lambda found, value: found == value,
    "NotEqual": lambda found, value: found != value,
    "Contains": lambda found, value: value in found,
    "StartsWith": lambda found, value: found.startswith(value),
}


def mapped_roles(pool, provider, claims):
    """The roles that a login may have, the one that it gets first."""
    default = [role for role in [(pool.get("_roles") or {}).get("authenticated")] if role]
    mappings, name = pool.get("_role_mappings") or {}, setting_name(pool, provider)
    mapping = mappings.get(f"{name}:{claims.get('aud')}") or mappings.get(name)
    if not mapping:
        return default
    rules = (mapping.get("RulesConfiguration") or {}).get("Rules") or []
    found = [rule["RoleARN"] for rule in rules if isinstance(claims.get(rule["Claim"]), str)
             and RULE_MATCHES[rule["MatchType"]](claims[rule["Claim"]], rule["Value"])]
    return found if found or mapping.get("AmbiguousRoleResolution") == "Deny" else default


def role_mappings():
    """An identity pool's role mappings of the type Rules choose the role; CustomRoleArn chooses only among what they give.

    AWS, "Using role-based access control": rules are evaluated in order, and the role of the first that matches is used,
    unless CustomRoleArn names another that matches. Where none does, AmbiguousRoleResolution says what happens. A mapping is
    for a user pool's app client (`provider:client`) or for a provider; a provider without one gives the default role. AWS
    does not say what becomes of a call with several logins. Here it may have any role that one of them gives: a trust policy
    that holds in this reading holds in a narrower one. The texts of the refusals are ours.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import cognito, sts
    from ministack.services.cloudformation import provisioners

    class NoRole(Exception):
        pass

    def make_register(original):
        def register_session(access_key, session):
            pool = cognito._identity_pools.get(session.get("_identity_pool_id") or "")
            logins = session.get("_logins") or {}
            if pool is not None and logins:
                roles = [role for provider, token in logins.items()
                         for role in mapped_roles(pool, provider, cognito._token_claims(token))]
                wanted = _custom_role.get()
                if wanted or roles or pool.get("_role_mappings"):
                    if not roles or (wanted and wanted not in roles):
                        raise NoRole
                    prefix, _, name = session["Arn"].partition(":assumed-role/")
                    role = (wanted or roles[0]).rpartition("/")[2]
                    session["Arn"] = f"{prefix}:assumed-role/{role}/{name.rpartition('/')[2]}"
            return original(access_key, session)
        return register_session

    def make_credentials(original):
        def get_credentials_for_identity(data):
            token = _custom_role.set(data.get("CustomRoleArn"))
            try:
                return original(data)
            except NoRole:
                return error_response_json(
                    "NotAuthorizedException", "The role mapping of this identity pool gives no such role.", 400)
            finally:
                _custom_role.reset(token)
        return get_credentials_for_identity

    def make_set_roles(original):
        def set_identity_pool_roles(data):
            pool = cognito._identity_pools.get(data.get("IdentityPoolId")) or {}
            names = {f"{known.get('ProviderName')}:{known.get('ClientId')}"
                     for known in pool.get("CognitoIdentityProviders") or []}
            for setting in ("OpenIdConnectProviderARNs", "SamlProviderARNs", "SupportedLoginProviders"):
                names.update(pool.get(setting) or [])
            for name, mapping in (data.get("RoleMappings") or {}).items():
                if pool and name not in names:
                    return error_response_json(
                        "InvalidParameterException",
                        f"{name} is not a valid RoleMapping ProviderName or is not a configured provider.", 400)
                rules = (mapping.get("RulesConfiguration") or {}).get("Rules") or []
                known = mapping.get("Type") == "Rules" and all(rule.get("MatchType") in RULE_MATCHES for rule in rules)
                if not known or mapping.get("AmbiguousRoleResolution") not in ("Deny", "AuthenticatedRole"):
                    return error_response_json("InvalidParameterException", "No role mapping that is known here.", 400)
            return original(data)
        return set_identity_pool_roles

    def make_apply(original):
        def apply(properties):
            # In a template the provider may stand beside the key, which cannot hold a name that only the deployment knows.
            mappings = {mapping.get("IdentityProvider") or key:
                        {name: value for name, value in mapping.items() if name != "IdentityProvider"}
                        for key, mapping in (properties.get("RoleMappings") or {}).items()}
            return original({**properties, "RoleMappings": mappings})
        return apply

    wrap(sts, "register_session", make_register)
    wrap(cognito, "_get_credentials_for_identity", make_credentials)
    wrap(cognito, "_set_identity_pool_roles", make_set_roles)
    wrap(provisioners, "_cognito_identity_pool_role_attachment_apply", make_apply)


# --- OpenID Connect providers -----------------------------------------------------------------------------------------

LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost)(:\d+)?(/.*)?")
LARGEST_DOCUMENT = 1 << 20


def fetch_json(url):
    """A provider's document. One on this machine is asked without TLS, for it has no certificate that anybody trusts."""
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
    """The provider's key of this id, as a JWK, or None when there is none or the provider cannot be asked."""
    try:
        keys = fetch_json(fetch_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")["jwks_uri"])["keys"]
        return next((key for key in keys if kid and key.get("kid") == kid and key.get("kty") == "RSA"), None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def openid_connect_logins():
    """A token of an OpenID Connect provider is verified before it is a login.

    AWS, Cognito's "OIDC providers": the token's iss must be the name of the login, the signature verifiable by an RSA key of
    the provider, azp one of the provider's client ids in IAM, or aud where there is no azp; five minutes of skew. The
    provider's certificate is not looked at here. Its sub is then the user: the same one has the same identity.
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
    """AWS::IAM::OIDCProvider is a resource, whose Ref is the provider's ARN. Another Url makes another provider."""
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


# --- Policy variables -------------------------------------------------------------------------------------------------

# Noncharacters that stand for a literal * and ? in an expanded pattern, since MiniStack's patterns have no escape.
LITERALS = {"*": "\ufdd0", "?": "\ufdd1"}
VARIABLE = re.compile(r"\$\{([^}]*)\}")
VARIABLE_NAME = re.compile(r"\s*([^\s,']+)\s*(?:,\s*'(.*)'\s*)?")
WILDCARD_OPERATORS = ("stringlike", "stringnotlike", "arnlike", "arnnotlike", "arnequals", "arnnotequals")


def expand(text, lookup, wildcards):
    """The text with its policy variables replaced once, or None when one of them has no value.

    What replaces a variable is taken literally: it is not expanded again, and with wildcards (where * and ? in the
    text are patterns) its * and ? match only themselves.
    """
    missing = False

    def replacement(match):
        nonlocal missing
        inner = match.group(1)
        if inner in ("*", "?", "$"):
            value = inner
        else:
            named = VARIABLE_NAME.fullmatch(inner)
            value = lookup(named.group(1)) if named else None
            # A key with several values cannot be a variable, and an empty value is none.
            if not isinstance(value, str) or not value:
                value = named.group(2) if named else None
        if value is None or any(mark in value for mark in LITERALS.values()):
            missing = True
            return ""
        if wildcards:
            for character, mark in LITERALS.items():
                value = value.replace(character, mark)
        return value

    expanded = VARIABLE.sub(replacement, text)
    return None if missing else expanded


def policy_variables():
    """${key} and ${key, 'default'} work in Resource, NotResource and Condition values.

    AWS, "Policy variables with no value": a variable whose key is absent or empty is null. In Resource and NotResource
    the pattern that holds it matches no resource. In a condition, StringEquals and StringLike do not match it, while
    the negated operators do, because nothing equals null; so a Deny with StringNotEquals denies. Dropping the value
    gives both, since MiniStack combines values by OR for the one kind and by NOR for the other.
    ${*}, ${?} and ${$} stand for these characters themselves.
    """
    from ministack.core import iam_evaluator as evaluator

    def make_compile(original):
        def compile_pattern(pattern, ignore_case):
            key = (pattern.lower() if ignore_case else pattern, ignore_case)
            compiled = evaluator._FNMATCH_CACHE.get(key)
            if compiled is None:
                parts = {"*": ".*", "?": "."} | {mark: re.escape(char) for char, mark in LITERALS.items()}
                regex = "".join(parts.get(character) or re.escape(character) for character in key[0])
                # \Z and DOTALL: a line break in a resource name is a character like any other.
                compiled = re.compile(rf"{regex}\Z", re.DOTALL | (re.IGNORECASE if ignore_case else 0))
                if len(evaluator._FNMATCH_CACHE) < 4096:
                    evaluator._FNMATCH_CACHE[key] = compiled
            return compiled
        return compile_pattern

    def make_conditions_met(original):
        def conditions_met(conditions, ctx):
            expanded = {}
            for operator, keys in (conditions or {}).items():
                if not isinstance(keys, dict):
                    continue
                wildcards = operator.lower().split(":")[-1].removesuffix("ifexists") in WILDCARD_OPERATORS
                expanded[operator] = {}
                for key, values in keys.items():
                    values = values if isinstance(values, list) else [values]
                    values = [expand(str(value), lambda name: evaluator._resolve_condition_key(name, ctx), wildcards)
                              for value in values]
                    expanded[operator][key] = [value for value in values if value is not None]
            return original(expanded, ctx)
        return conditions_met

    def make_first_match(original):
        def matches_one(ctx, patterns):
            for pattern in patterns:
                expanded = expand(pattern, lambda name: evaluator._resolve_condition_key(name, ctx), True)
                if expanded is not None and evaluator.fnmatch_iam_cs(ctx.resource_arn, expanded):
                    return True
            return False

        def first_match(ctx, statements, effect):
            for statement in statements:
                if statement.effect != effect:
                    continue
                if not evaluator._action_matches(ctx.action, statement.actions, statement.not_actions):
                    continue
                if statement.resources and not matches_one(ctx, statement.resources):
                    continue
                if not statement.resources and matches_one(ctx, statement.not_resources):
                    continue
                if evaluator._conditions_met(statement.conditions, ctx):
                    return statement
            return None
        return first_match

    wrap(evaluator, "_fnmatch_compile", make_compile)
    wrap(evaluator, "_conditions_met", make_conditions_met)
    wrap(evaluator, "_first_match", make_first_match)


def principal_arn():
    """aws:PrincipalArn of a role session is the role.

    AWS, "aws:PrincipalArn": for a role the key holds the ARN of the role, not of the session that assumed it.
    """
    from ministack.core import iam_evaluator as evaluator
    from ministack.services import iam

    def make_resolve(original):
        def resolve_condition_key(key, ctx):
            if key.lower() == "aws:principalarn" and ":assumed-role/" in ctx.principal_arn:
                role = iam._roles.get_scoped(
                    ctx.principal_account, None, evaluator._role_name_from_assumed_arn(ctx.principal_arn))
                if role:
                    return role["Arn"]
            return original(key, ctx)
        return resolve_condition_key

    wrap(evaluator, "_resolve_condition_key", make_resolve)


# --- S3 ---------------------------------------------------------------------------------------------------------------

# (method, body) of the request being served, and (path, query, headers) of one to S3.
_http = contextvars.ContextVar("sluice_http", default=("", b""))
_s3_request = contextvars.ContextVar("sluice_s3_request", default=("", {}, {}))

EXISTING_TAG_ACTIONS = {f"s3:{verb}Object{version}{what}" for version in ("", "Version") for verb, what in (
    ("Get", ""), ("Get", "Tagging"), ("Put", "Tagging"), ("Delete", "Tagging"),
    ("Get", "Acl"), ("Put", "Acl"), ("Get", "Attributes"))}
PUT_TAGGING_ACTIONS = {"s3:PutObjectTagging", "s3:PutObjectVersionTagging"}

# Headers of a write that need another action on the object besides s3:PutObject.
WRITE_HEADER_ACTIONS = {
    "x-amz-acl": "s3:PutObjectAcl",
    "x-amz-grant-read": "s3:PutObjectAcl",
    "x-amz-grant-write": "s3:PutObjectAcl",
    "x-amz-grant-read-acp": "s3:PutObjectAcl",
    "x-amz-grant-write-acp": "s3:PutObjectAcl",
    "x-amz-grant-full-control": "s3:PutObjectAcl",
    "x-amz-object-lock-mode": "s3:PutObjectRetention",
    "x-amz-object-lock-retain-until-date": "s3:PutObjectRetention",
    "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
}
# Further condition keys that carry a write's header of the same name.
WRITE_HEADER_KEYS = ("x-amz-server-side-encryption-aws-kms-key-id",
                     "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class", "x-amz-copy-source",
                     "x-amz-metadata-directive")


def query_value(query, name):
    found = query.get(name) or ""
    return found[0] if isinstance(found, list) else found


def header_tags(s3, headers):
    """The tags the x-amz-tagging header of a write gives its object; a copy gives them only when it replaces tags."""
    if headers.get("x-amz-copy-source") and headers.get("x-amz-tagging-directive", "").upper() != "REPLACE":
        return {}
    given = s3._parse_qs(headers.get("x-amz-tagging", ""), keep_blank_values=True)
    return {name: values[0] for name, values in given.items()}


def copy_source_tags(s3, actions, headers):
    """(ARN, version id, tags) of a copy's source object, or None when the request copies nothing."""
    source = actions._s3_source_object(headers)
    if source is None:
        return None
    arn, version = source
    bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
    return arn, version, s3.object_tags_for_condition(bucket, key, {"versionId": [version]} if version else {})


def s3_keys(s3, actions, action, resource_arn, context):
    """The condition keys of one S3 check, in addition to MiniStack's."""
    bucket, _, key = resource_arn.removeprefix("arn:aws:s3:::").partition("/")
    if not key:
        return {}
    method, body = _http.get()
    path, query, headers = _s3_request.get()
    keys = {}
    # PutObjectTagging is also checked for a PutObject with tags, and then there is no existing object to look at.
    sets_tags = action in PUT_TAGGING_ACTIONS and "tagging" in query
    if action in EXISTING_TAG_ACTIONS and (sets_tags or action not in PUT_TAGGING_ACTIONS):
        source = copy_source_tags(s3, actions, headers)
        if source and source[0] == resource_arn:
            version, tags = source[1], source[2]
        else:
            version = query_value(query, "versionId")
            tags = s3.object_tags_for_condition(bucket, key, query)
        keys.update(by_lower_name("s3:ExistingObjectTag", tags))
        if version and "Version" in action:
            keys["s3:versionid"] = version
    if sets_tags:
        try:
            tags = s3._parse_tags_xml(body)
        except Exception:  # A body that is no XML is refused by the handler.
            tags = {}
    elif action == "s3:PutObject" or action in PUT_TAGGING_ACTIONS:
        # A form upload is checked with its fields as keys, and has no such header.
        tags = header_tags(s3, {**headers, "x-amz-tagging":
                                headers.get("x-amz-tagging") or context.get("s3:x-amz-tagging") or ""})
    else:
        tags = {}
    if tags:
        keys.update(by_lower_name("s3:RequestObjectTag", tags))
        keys["s3:requestobjecttagkeys"] = one_or_many(tags)
    if action == "s3:PutObject":
        for name in ("if-none-match", "if-match", *WRITE_HEADER_KEYS):
            if headers.get(name):
                keys[f"s3:{name}"] = headers[name]
        partial = (method == "POST" and "uploads" in query) or (
            method == "PUT" and "uploadId" in query and "partNumber" in query)
        keys["s3:objectcreationoperation"] = str(not partial).lower()
    return keys


def s3_condition_keys():
    """S3 requests carry their tag, conditional-write and version keys, and need every action AWS asks for.

    AWS, "Actions, resources, and condition keys for Amazon S3":
    - s3:RequestObjectTag/<key> and s3:RequestObjectTagKeys: the tags a PutObject, CopyObject, CreateMultipartUpload
      or PutObjectTagging asks for.
    - s3:ExistingObjectTag/<key>: the tags an object has, for reads, ACLs and tagging, and not for PutObject.
    - s3:if-none-match and s3:if-match: these headers of a write. s3:ObjectCreationOperation: false for
      CreateMultipartUpload and UploadPart, true for each request that makes an object appear.
    - A PutObject with tags also needs s3:PutObjectTagging. A copy that keeps its source's tags needs that, and
      s3:GetObjectTagging on the source. ACL and object lock headers need their own actions.
    """
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import s3

    def make_read_body(original):
        async def read_request_body(receive, method, headers):
            _http.set((method, b""))
            body = await original(receive, method, headers)
            _http.set((method, body))
            return body
        return read_request_body

    def make_service_context(original):
        def s3_service_context(iam_action, query_params, path="", headers=None):
            _s3_request.set((path, query_params or {}, headers or {}))
            return original(iam_action, query_params, path, headers)
        return s3_service_context

    def make_additional_checks(original):
        def s3_additional_checks(method, path, headers, body, query_params):
            checks = original(method, path, headers, body, query_params)
            parts = [part for part in path.split("/") if part]
            if (len(parts) < 2 or "uploadId" in query_params
                    or iam_actions._s3_action(method, path, query_params) != "PutObject"):
                return checks
            arn = iam_actions.extract_resource_arn("s3", method, path, headers, body, query_params, "", "")
            needed = {action for header, action in WRITE_HEADER_ACTIONS.items() if headers.get(header)}
            if header_tags(s3, headers):
                needed.add("s3:PutObjectTagging")
            source = copy_source_tags(s3, iam_actions, headers)
            if source and source[2] and headers.get("x-amz-tagging-directive", "").upper() != "REPLACE":
                needed.add("s3:PutObjectTagging")
                checks.append(("s3:GetObjectVersionTagging" if source[1] else "s3:GetObjectTagging", source[0]))
            return checks + [(action, arn) for action in sorted(needed)]
        return s3_additional_checks

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "s3":
                context = service_context or {}
                service_context = {**context, **s3_keys(s3, iam_actions, iam_action, resource_arn, context)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(app, "_read_request_body", make_read_body)
    wrap(iam_actions, "s3_service_context", make_service_context)
    wrap(iam_actions, "s3_additional_checks", make_additional_checks)
    wrap(iam_evaluator, "enforce", make_enforce)


def s3_object_names():
    """An object is authorized under the very key that it is stored under.

    AWS: a key is a string. Two slashes, a slash at the end and a slash at the beginning are part of it, so the ARN of
    //a is not that of /a. MiniStack drops them from the ARN, and a policy for one prefix would allow another.
    """
    from ministack.core import iam_actions

    def exact(path):
        bucket, _, key = path.lstrip("/").partition("/")
        return f"arn:aws:s3:::{bucket}/{key}" if bucket and key else None

    def make_resource_arn(original):
        def extract_resource_arn(service, method, path, *rest):
            return (exact(path) if service == "s3" else None) or original(service, method, path, *rest)
        return extract_resource_arn

    def make_additional_checks(original):
        def s3_additional_checks(method, path, headers, body, query_params):
            collapsed = f"arn:aws:s3:::{'/'.join(part for part in path.split('/') if part)}"
            return [(action, exact(path) if arn == collapsed and exact(path) else arn)
                    for action, arn in original(method, path, headers, body, query_params)]
        return s3_additional_checks

    wrap(iam_actions, "extract_resource_arn", make_resource_arn)
    wrap(iam_actions, "s3_additional_checks", make_additional_checks)


def one_tag_once():
    """A write that names one tag twice is refused.

    AWS: x-amz-tagging with the same key twice is an InvalidArgument. MiniStack takes the first and forgets the other.
    """
    from ministack.services import s3

    def make_validate(original):
        def validate_object_request(method, path, headers, query_params):
            names = [name for part in headers.get("x-amz-tagging", "").split("&")
                     for name in s3._parse_qs(part, keep_blank_values=True)]
            if len(names) != len(set(names)):
                return s3._error("InvalidArgument", "Cannot provide multiple Tags with the same key", 400)
            return original(method, path, headers, query_params)
        return validate_object_request

    wrap(s3, "validate_object_request", make_validate)


# --- DynamoDB ---------------------------------------------------------------------------------------------------------

_dynamodb_body = contextvars.ContextVar("sluice_dynamodb_body", default=b"")

TRANSACTION_MEMBERS = {"dynamodb:PutItem": "Put", "dynamodb:UpdateItem": "Update", "dynamodb:DeleteItem": "Delete",
                       "dynamodb:GetItem": "Get", "dynamodb:ConditionCheckItem": "ConditionCheck"}
EQUALITY = re.compile(r"(?<![\w#:])(#?\w+)\s*=\s*(:\w+)|(:\w+)\s*=\s*(#?\w+)")


def requested_keys(action, data, table, in_transaction):
    """The keys, or whole items, of this table that a request other than Query names."""
    def of_table(detail):
        name = detail.get("TableName") if isinstance(detail, dict) else None
        return isinstance(name, str) and name.rpartition("/")[2] == table

    if in_transaction:
        members = [item.get(TRANSACTION_MEMBERS.get(action, "")) for item in data.get("TransactItems") or []]
        details = [detail for detail in members if of_table(detail)]
    elif action in ("dynamodb:BatchGetItem", "dynamodb:BatchWriteItem"):
        details = []
        for name, asked in (data.get("RequestItems") or {}).items():
            if name.rpartition("/")[2] != table:
                continue
            if action == "dynamodb:BatchGetItem":
                details += [{"Key": key} for key in asked.get("Keys") or []]
            else:
                details += [detail for write in asked for detail in write.values()]
    elif action in TRANSACTION_MEMBERS:
        details = [data]
    else:
        details = []
    return [detail.get("Item") if "Item" in detail and "Key" not in detail else detail.get("Key") for detail in details]


def query_keys(data):
    """The attribute values a Query asks to be equal, from its expression and from the legacy KeyConditions."""
    names, values = data.get("ExpressionAttributeNames") or {}, data.get("ExpressionAttributeValues") or {}
    found = []
    for match in EQUALITY.finditer(data.get("KeyConditionExpression") or ""):
        name, value = match.group(1) or match.group(4), match.group(2) or match.group(3)
        found.append({names.get(name, name): values.get(value)})
    for name, condition in (data.get("KeyConditions") or {}).items():
        if condition.get("ComparisonOperator") == "EQ":
            found += [{name: value} for value in condition.get("AttributeValueList") or []]
    return found


def leading_keys(dynamodb, action, resource_arn, data, in_transaction):
    """The partition key values a request names in one table, or in one index of it."""
    table_name, _, index_name = resource_arn.partition(":table/")[2].partition("/index/")
    table = dynamodb._tables.get(table_name)
    if not table:
        return []
    schema = table.get("KeySchema") or []
    if index_name:
        indexes = [*(table.get("GlobalSecondaryIndexes") or []), *(table.get("LocalSecondaryIndexes") or [])]
        schema = next((index["KeySchema"] for index in indexes if index["IndexName"] == index_name), [])
    partition = [key["AttributeName"] for key in schema if key["KeyType"] == "HASH"]
    if action == "dynamodb:Query":
        keys = query_keys(data)
    else:
        keys = requested_keys(action, data, table_name, in_transaction)
    return [str(value) for key in keys if isinstance(key, dict) for name in partition
            if isinstance(key.get(name), dict) for value in key[name].values()]


def dynamodb_leading_keys():
    """DynamoDB requests carry dynamodb:LeadingKeys, the partition key values they name.

    AWS, "Using IAM policy conditions for fine-grained access control": the key holds the partition key values of the
    table, or of the index that is queried. A Scan names none, so the key is absent, and ForAllValues then matches: a
    policy must also ask for the key with Null, or not allow Scan.
    """
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import dynamodb

    def make_service_context(original):
        def dynamodb_service_context(body):
            _dynamodb_body.set(body)
            return original(body)
        return dynamodb_service_context

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "dynamodb":
                try:
                    data = json.loads(_dynamodb_body.get() or b"{}")
                    in_transaction = "dynamodb:EnclosingOperation" in (service_context or {})
                    values = leading_keys(dynamodb, iam_action, resource_arn, data, in_transaction)
                except (ValueError, AttributeError, TypeError):  # A malformed request, which the handler refuses.
                    values = []
                if values:
                    service_context = {**(service_context or {}), "dynamodb:LeadingKeys": one_or_many(values)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_actions, "dynamodb_service_context", make_service_context)
    wrap(iam_evaluator, "enforce", make_enforce)


# --- KMS --------------------------------------------------------------------------------------------------------------

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
                    given = json.loads(_http.get()[1] or b"{}").get("EncryptionContext") or {}
                    keys = {f"kms:encryptioncontext:{name}".lower(): value for name, value in given.items()}
                except (ValueError, AttributeError):  # A malformed request, which the handler refuses.
                    given, keys = {}, {}
                if given:
                    service_context = {**(service_context or {}), **keys,
                                       "kms:encryptioncontextkeys": one_or_many(given)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_evaluator, "enforce", make_enforce)


# --- CloudWatch Logs --------------------------------------------------------------------------------------------------

def log_stream_arn():
    """Writing to a log group is judged by `log-group:<name>:log-stream:<stream>`, so that a policy may name the group as
    `log-group:<name>:*`, which is what AWS::Logs::LogGroup gives as its Arn.

    AWS, CloudWatch Logs user guide, "Resources and operations". MiniStack compares the bare group.
    """
    from ministack.core import iam_evaluator

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if iam_action in ("logs:CreateLogStream", "logs:PutLogEvents") and resource_arn.count(":") == 6:
                try:
                    stream = json.loads(_http.get()[1] or b"{}").get("logStreamName", "")
                except (ValueError, AttributeError):  # A malformed request, which the handler refuses.
                    stream = ""
                resource_arn = f"{resource_arn}:log-stream:{stream}"
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(iam_evaluator, "enforce", make_enforce)


# --- Step Functions ---------------------------------------------------------------------------------------------------

_machine_role = contextvars.ContextVar("sluice_machine_role", default="")

INTEGRATION = re.compile(r"arn:aws:states:::(?:aws-sdk:)?(lambda|dynamodb|sns|sqs|states):(\w+)")
# What an optimized integration reports as its error when the role may not make the call.
INTEGRATION_ERRORS = {"lambda": "Lambda.AWSLambdaException", "dynamodb": "DynamoDB.AmazonDynamoDBException",
                      "sns": "SNS.AmazonSNSException", "sqs": "SQS.AmazonSQSException",
                      "states": "StepFunctions.AWSStepFunctionsException"}


def integration_target(resource, arguments, account, region):
    """(service, IAM action, resource ARN) of a task's call, or None when it is none of those checked here."""
    from ministack.core import iam_actions
    from ministack.services import sqs

    if resource.startswith("arn:aws:lambda:"):
        return "lambda", "lambda:InvokeFunction", resource
    match = INTEGRATION.match(resource)
    if not match or not isinstance(arguments, dict):
        return None
    service, operation = match.groups()
    if service == "lambda":
        name = str(arguments.get("FunctionName", ""))
        arn = name if name.startswith("arn:") else f"arn:aws:lambda:{region}:{account}:function:{name}"
        return service, "lambda:InvokeFunction", arn
    if service == "dynamodb":
        arn = iam_actions._dynamodb_table_arn(str(arguments.get("TableName", "")), region, account)
        index = arguments.get("IndexName")
        arn = f"{arn}/index/{index}" if index else arn
    elif service == "sqs":
        arn = sqs._get_q(arguments.get("QueueUrl", ""))["attributes"]["QueueArn"]
    elif service == "sns":
        arn = arguments.get("TopicArn", "")
    else:
        arn = arguments.get("StateMachineArn", "")
    return service, f"{service}:{operation[0].upper()}{operation[1:]}", arn


def state_machine_role():
    """A state machine calls other services as its role, and fails when the role may not.

    AWS: each task's call is authorized for the state machine's role, by the role's policies and the resource's own.
    Checked are the tasks that invoke functions, write to DynamoDB, publish, send, or start executions.
    """
    from ministack import app
    from ministack.core import iam_evaluator as evaluator
    from ministack.core.responses import get_account_id, get_region
    from ministack.services import dynamodb, iam, stepfunctions

    def check(resource, arguments):
        role_arn = _machine_role.get()
        account, region = get_account_id(), get_region()
        target = integration_target(resource, arguments, account, region)
        if not app.AUTH or not role_arn or target is None:
            return
        service, action, arn = target
        role = role_arn.rpartition("/")[2]
        context = {}
        if service == "dynamodb":
            values = leading_keys(dynamodb, action, arn, arguments, False)
            context = {"dynamodb:leadingkeys": one_or_many(values)} if values else {}
        caller = f"arn:aws:sts::{account}:assumed-role/{role}/state-machine"
        ctx = evaluator.EvalContext(
            principal_arn=caller, principal_type="AssumedRole", principal_account=account, action=action,
            resource_arn=arn, region=region, secure_transport=True, service_context=context)
        limits = evaluator._permissions_boundary(iam._roles, role, account)
        result = evaluator.evaluate(ctx, evaluator._gather_role_policies(role, account), *limits)
        found = evaluator._resource_policy(service, arn)
        if found is not None:
            result = evaluator.combine_resource_policy(result, ctx, *found, limits=limits)
        if result.decision != "Allow":
            reason = ("with an explicit deny" if result.decision == "Deny" else
                      f"because no identity-based policy allows the {action} action")
            raise stepfunctions._ExecutionError(
                INTEGRATION_ERRORS[service],
                f"User: {caller} is not authorized to perform: {action} on resource: {arn} {reason}")

    def make_execute(original):
        def execute_task(state_def, raw_input, execution, ctx):
            started = (execution or {}).get("events") or [{}]
            _machine_role.set(started[0].get("executionStartedEventDetails", {}).get("roleArn", ""))
            return original(state_def, raw_input, execution, ctx)
        return execute_task

    def make_invoke(original):
        def invoke(resource, input_data, *more):
            check(resource, input_data)
            return original(resource, input_data, *more)
        return invoke

    wrap(stepfunctions, "_execute_task", make_execute)
    wrap(stepfunctions, "_invoke_resource", make_invoke)
    wrap(stepfunctions, "_invoke_with_callback", make_invoke)


def retry_delay():
    """A retrier's MaxDelaySeconds and JitterStrategy count.

    AWS, "Error handling": MaxDelaySeconds caps the interval that BackoffRate makes grow; with JitterStrategy FULL the
    delay is random between nothing and that interval.
    """
    from ministack.services import stepfunctions

    def make_find(original):
        def find_matching_retrier(retriers, error, retry_counts):
            retrier, index = original(retriers, error, retry_counts)
            if retrier is not None:
                growth = retrier.get("BackoffRate", 2.0) ** retry_counts.get(index, 0)
                delay = retrier.get("IntervalSeconds", 1) * growth
                delay = min(delay, retrier.get("MaxDelaySeconds", delay))
                if retrier.get("JitterStrategy") == "FULL":
                    delay = random.uniform(0, delay)
                retrier = {**retrier, "IntervalSeconds": delay, "BackoffRate": 1}
            return retrier, index
        return find_matching_retrier

    wrap(stepfunctions, "_find_matching_retrier", make_find)


# --- SQS --------------------------------------------------------------------------------------------------------------

def queue_batch_actions():
    """Who may send, delete or change a message may do so with ten at once: the batch operations have no action of their own
    (Service Authorization Reference, "Actions, resources, and condition keys for Amazon SQS").
    """
    from ministack.core import iam_actions

    def make(original):
        def action_from_target(headers):
            action = original(headers)
            is_batch = headers.get("x-amz-target", "").startswith("AmazonSQS.") and (action or "").endswith("Batch")
            return action.removesuffix("Batch") if is_batch else action
        return action_from_target

    wrap(iam_actions, "_action_from_target", make)


def message_move_tasks():
    """StartMessageMoveTask moves the messages of a dead-letter queue back, and ListMessageMoveTasks tells about it.

    AWS: the source must be some queue's dead-letter queue. Without a destination each message returns to the queue it
    came from. A moved message is a new one, with its own id and no receives. Here a task is done when the call returns.
    """
    from ministack.core import iam_actions
    from ministack.services import sqs

    tasks = []

    def is_dead_letter_queue(arn):
        policies = (json.loads(queue["attributes"].get("RedrivePolicy") or "{}") for queue in sqs._queues.values())
        return any(isinstance(policy, dict) and policy.get("deadLetterTargetArn") == arn for policy in policies)

    def start(data, _url):
        source = sqs._queue_by_arn(data.get("SourceArn") or "")
        if source is None:
            raise sqs._Err("ResourceNotFoundException", "The resource that you specified for the SourceArn parameter "
                                                        "doesn't exist.")
        if not is_dead_letter_queue(data["SourceArn"]):
            raise sqs._Err("InvalidParameterValue", "Source queue must be configured as a Dead Letter Queue.")
        now, kept, moved = time.time(), [], 0
        for message in source["messages"]:
            origin = data.get("DestinationArn") or message["sys"].get("DeadLetterQueueSourceArn") or ""
            target = sqs._queue_by_arn(origin)
            if target is None or message["visible_at"] > now:
                kept.append(message)
                continue
            system = {name: value for name, value in message["sys"].items() if name != "DeadLetterQueueSourceArn"}
            if "SentTimestamp" in system:
                system["SentTimestamp"] = str(int(now * 1000))
            target["messages"].append({
                **message, "id": str(uuid.uuid4()), "sent_at": now, "visible_at": now, "enqueued_at": now,
                "receive_count": 0, "first_receive_at": None, "receipt_handle": None, "sys": system})
            moved += 1
        source["messages"] = kept
        sqs.esm_wake.set()
        handle = str(uuid.uuid4())
        tasks.insert(0, {
            **{name: data[name] for name in ("SourceArn", "DestinationArn", "MaxNumberOfMessagesPerSecond")
               if name in data},
            "TaskHandle": handle, "Status": "COMPLETED", "StartedTimestamp": int(now * 1000),
            "ApproximateNumberOfMessagesMoved": moved, "ApproximateNumberOfMessagesToMove": moved})
        return {"TaskHandle": handle}

    def list_tasks(data, _url):
        # A finished task is listed without its handle, since there is nothing to cancel.
        found = [{name: value for name, value in task.items() if name != "TaskHandle"}
                 for task in tasks if task["SourceArn"] == data.get("SourceArn")]
        return {"Results": found[:int(data.get("MaxResults") or 1)]}

    def make_resource_arn(original):
        def extract_resource_arn(service, method, path, headers, body, query_params, region, account_id):
            operation = headers.get("x-amz-target", "").rpartition(".")[2]
            if service == "sqs" and operation in ("StartMessageMoveTask", "ListMessageMoveTasks"):
                return iam_actions._safe_json_field(body, "SourceArn") or "*"
            return original(service, method, path, headers, body, query_params, region, account_id)
        return extract_resource_arn

    sqs._HANDLERS.update({"StartMessageMoveTask": start, "ListMessageMoveTasks": list_tasks})
    wrap(iam_actions, "extract_resource_arn", make_resource_arn)


# --- Identities -------------------------------------------------------------------------------------------------------

def identity_tokens():
    """The tokens of an identity pool: none where the classic flow is off, and only genuine ones assume a role.

    AWS: GetOpenIdToken belongs to the basic (classic) flow and fails where the pool does not allow that flow.
    AssumeRoleWithWebIdentity verifies the token's signature and expiry before it looks at the role's trust policy.
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


# --- User attributes --------------------------------------------------------------------------------------------------

# What only Cognito or an administrator sets, whatever an app client's WriteAttributes say.
NEVER_WRITABLE = {"sub", "identities", "email_verified", "phone_number_verified", "cognito:user_status"}


def attribute_error(cognito, pool, client, attributes, creating):
    """The error AWS answers when this app client may not write one of these attributes, or None."""
    schema = {entry["Name"]: entry for entry in cognito._ensure_schema_attributes(pool)["SchemaAttributes"]}
    listed = client.get("WriteAttributes") or []
    for attribute in attributes or []:
        name = attribute.get("Name", "")
        if name not in schema:
            return cognito.error_response_json(
                "InvalidParameterException",
                f"Attributes did not conform to the schema: Type for attribute {{{name}}} could not be determined", 400)
        mutable = schema[name].get("Mutable", True)
        writable = name in listed if listed else not name.startswith("dev:")
        if name in NEVER_WRITABLE or not writable:
            return cognito.error_response_json(
                "NotAuthorizedException", "A client attempted to write unauthorized attribute", 400)
        if not mutable and not creating:
            return cognito.error_response_json(
                "InvalidParameterException", f"user.{name}: Attribute cannot be updated.", 400)
    return None


def write_attributes():
    """UpdateUserAttributes and SignUp honour the app client's WriteAttributes and the pool's sign-up setting.

    AWS: an app client writes only the attributes in its WriteAttributes; without that list it may write the standard
    attributes and every mutable custom attribute. The access token names the client.
    With AllowAdminCreateUserOnly nobody can sign up.
    """
    from ministack.services import cognito

    def make_update(original):
        def update_user_attributes(data):
            token = data.get("AccessToken") or ""
            user, pool = cognito._user_pool_for_access_token(token)
            if user:
                client = pool["_clients"].get(cognito._token_claims(token).get("client_id"))
                if client is None:
                    return cognito.error_response_json("NotAuthorizedException", "Invalid Access Token", 400)
                error = attribute_error(cognito, pool, client, data.get("UserAttributes"), creating=False)
                if error:
                    return error
            return original(data)
        return update_user_attributes

    def make_sign_up(original):
        def sign_up(data):
            for pool in cognito._user_pools.values():
                client = pool["_clients"].get(data.get("ClientId"))
                if client is None:
                    continue
                if (pool.get("AdminCreateUserConfig") or {}).get("AllowAdminCreateUserOnly"):
                    return cognito.error_response_json(
                        "NotAuthorizedException", "SignUp is not permitted for this user pool", 400)
                error = attribute_error(cognito, pool, client, data.get("UserAttributes"), creating=True)
                if error:
                    return error
            return original(data)
        return sign_up

    wrap(cognito, "_update_user_attributes", make_update)
    wrap(cognito, "_sign_up", make_sign_up)


# --- Sign-up and sign-in ----------------------------------------------------------------------------------------------

class TriggerFailed(Exception):
    """A user pool's function could not be called or failed; holds Cognito's answer."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


def call_post_confirmation(pool, user, client_id, source):
    """Call the pool's post-confirmation function for a user, if the pool has one."""
    from ministack import app
    from ministack.core import iam_evaluator as evaluator
    from ministack.core.responses import get_account_id
    from ministack.services import cognito, lambda_svc

    arn = (pool.get("LambdaConfig") or {}).get("PostConfirmation")
    if not arn:
        return
    record, config, _ = lambda_svc._get_func_record_for_ref(arn)
    if record is None:
        raise TriggerFailed("UnexpectedLambdaException", "PostConfirmation invocation failed: no such function.")
    context = evaluator.EvalContext(
        principal_arn="cognito-idp.amazonaws.com", principal_type="Service", principal_account=get_account_id(),
        action="lambda:InvokeFunction", resource_arn=arn, region=cognito._pool_region(pool["Id"]),
        service_context={"aws:sourcearn": pool["Arn"], "aws:sourceaccount": get_account_id()})
    if app.AUTH and evaluator.evaluate_resource_policy(
            record.get("policy"), context, "cognito-idp.amazonaws.com").decision != "Allow":
        raise TriggerFailed("UnexpectedLambdaException", "PostConfirmation invocation failed due to error "
                                                         "AccessDeniedException.")
    attributes = cognito._attr_list_to_dict(user.get("Attributes", []))
    event = {
        "version": "1",
        "region": cognito._pool_region(pool["Id"]),
        "userPoolId": pool["Id"],
        "userName": user["Username"],
        "callerContext": {"awsSdkVersion": "aws-sdk-unknown-unknown", "clientId": client_id},
        "triggerSource": source,
        "request": {"userAttributes": {**attributes, "cognito:user_status": user["UserStatus"]}},
        "response": {},
    }
    result = lambda_svc._execute_function_with_config_scope(
        lambda_svc._execution_record_for_config(record, config), event)
    answer = result.get("body")
    if isinstance(answer, (str, bytes)):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = None
    if result.get("error"):
        message = (answer or {}).get("errorMessage", "unknown") if isinstance(answer, dict) else "unknown"
        raise TriggerFailed("UserLambdaValidationException", f"PostConfirmation failed with error {message}.")
    if not isinstance(answer, dict):
        raise TriggerFailed("InvalidLambdaResponseException", "Unrecognizable lambda output")


def post_confirmation():
    """A user pool calls its post-confirmation function.

    AWS, "Post confirmation Lambda trigger": after ConfirmSignUp, AdminConfirmSignUp and the first sign-in of a
    federated user the trigger source is PostConfirmation_ConfirmSignUp, after ConfirmForgotPassword it is
    PostConfirmation_ConfirmForgotPassword; not after AdminCreateUser. The function's resource policy must let
    cognito-idp.amazonaws.com call it for the pool. When the function fails the call fails with
    UserLambdaValidationException and the function's message, and the user stays confirmed.
    ConfirmSignUp with a code also verifies the address the code was sent to; AdminConfirmSignUp does not, and both
    refuse a user who is confirmed.
    """
    from ministack.core.responses import error_response_json
    from ministack.services import cognito

    def self_service(source, verifies):
        def make(original):
            def confirm(data):
                pool, _ = cognito._pool_for_client(data.get("ClientId"))
                user = cognito._resolve_user(pool, data.get("Username"))[0] if pool else None
                answer = original(data)
                if user is None or answer[0] >= 400:
                    return answer
                if verifies and "email" in cognito._attr_list_to_dict(user["Attributes"]):
                    user["Attributes"] = cognito._merge_attributes(
                        user["Attributes"], [{"Name": "email_verified", "Value": "true"}])
                call_post_confirmation(pool, user, data["ClientId"], source)
                return answer
            return answering_failures(confirm)
        return make

    def make_admin_confirm(original):
        def admin_confirm_sign_up(data):
            pool = cognito._user_pools.get(data.get("UserPoolId"))
            user = cognito._resolve_user(pool, data.get("Username"))[0] if pool else None
            if user and user["UserStatus"] != "UNCONFIRMED":
                return error_response_json(
                    "NotAuthorizedException",
                    f"User cannot be confirmed. Current status is {user['UserStatus']}", 400)
            answer = original(data)
            if user and answer[0] < 400:
                call_post_confirmation(pool, user, "CLIENT_ID_NOT_APPLICABLE", "PostConfirmation_ConfirmSignUp")
            return answer
        return answering_failures(admin_confirm_sign_up)

    def make_start_profile(original):
        def start_federated_profile(pool, pool_id, user, provider_name, user_id):
            original(pool, pool_id, user, provider_name, user_id)
            call_post_confirmation(pool, user, "CLIENT_ID_NOT_APPLICABLE", "PostConfirmation_ConfirmSignUp")
        return start_federated_profile

    def answering_failures(handler):
        def answer(*arguments):
            try:
                return handler(*arguments)
            except TriggerFailed as error:
                return error_response_json(error.code, str(error), 400)
        return answer

    wrap(cognito, "_confirm_sign_up", self_service("PostConfirmation_ConfirmSignUp", verifies=True))
    wrap(cognito, "_confirm_forgot_password", self_service("PostConfirmation_ConfirmForgotPassword", verifies=False))
    wrap(cognito, "_admin_confirm_sign_up", make_admin_confirm)
    wrap(cognito, "_start_federated_profile", make_start_profile)
    for name in ("_saml2_idp_response", "_oauth2_idp_response"):
        wrap(cognito, name, answering_failures)


SESSION_SECONDS = 180
SESSION_CHALLENGES = ("NEW_PASSWORD_REQUIRED", "SOFTWARE_TOKEN_MFA", "MFA_SETUP")


def challenge_sessions():
    """A challenge is answered by whom it was put to, with the Session that came with it, within three minutes.

    AWS, "RespondToAuthChallenge": the Session identifies the sign-in that goes on. MiniStack takes any name for a
    challenge, and with it anybody's tokens could be had. A pool whose MfaConfiguration is ON challenges a user without
    a second factor with MFA_SETUP: AssociateSoftwareToken and VerifySoftwareToken take that Session, and only the one
    that the latter gives back signs in. The sign-in pages ask for the second factor too; here they have no page for it,
    and refuse users who need one.
    """
    from ministack.core.responses import error_response_json, json_response
    from ministack.services import cognito

    sessions = {}

    def refused():
        return error_response_json("NotAuthorizedException", "Invalid session for the user.", 400)

    def remember(answer, pool_id, client_id, user):
        """The answer, its Session remembered if it is a challenge."""
        body = json.loads(answer[2])
        if body.get("ChallengeName") in SESSION_CHALLENGES:
            sessions[body["Session"]] = {
                "challenge": body["ChallengeName"], "pool": pool_id, "client": client_id, "user": user["Username"],
                "until": time.time() + SESSION_SECONDS, "verified": False}
        return answer

    def second_factor(pool, pool_id, user):
        """The challenge that stands between a user and their tokens once the password is settled, or None."""
        challenge = cognito._mfa_challenge_for_user(pool, user, pool_id, user["Username"])
        if challenge is None and pool.get("MfaConfiguration") == "ON":
            challenge = {"ChallengeName": "MFA_SETUP", "Session": uuid.uuid4().hex, "ChallengeParameters": {
                "USER_ID_FOR_SRP": user["Username"], "MFAS_CAN_SETUP": '["SOFTWARE_TOKEN_MFA"]'}}
        return challenge and json_response(challenge)

    def make_password(original):
        def password_auth_result(pool, pool_id, client_id, user, *more, **named):
            answer = original(pool, pool_id, client_id, user, *more, **named)
            if "AuthenticationResult" in json.loads(answer[2]):
                answer = second_factor(pool, pool_id, user) or answer
            return remember(answer, pool_id, client_id, user)
        return password_auth_result

    def make_respond(original):
        def respond(data):
            name = data.get("ChallengeName")
            if name not in SESSION_CHALLENGES:
                return original(data)
            client_id, session = data.get("ClientId"), sessions.get(data.get("Session"))
            pool, pool_id = cognito._pool_for_client(client_id)
            if not session or not pool or session["until"] < time.time():
                return refused()
            user = cognito._resolve_user(pool, (data.get("ChallengeResponses") or {}).get("USERNAME"))[0]
            given = (name, pool_id, client_id, user and user["Username"])
            if given != tuple(session[part] for part in ("challenge", "pool", "client", "user")):
                return refused()
            if name == "MFA_SETUP" and not session["verified"]:
                return error_response_json("InvalidParameterException", "User must have MFA set up first.", 400)
            if name == "NEW_PASSWORD_REQUIRED":
                error = cognito._validate_password(
                    pool, (data.get("ChallengeResponses") or {}).get("NEW_PASSWORD") or "")
                if error:
                    return error
            answer = original(data)
            if answer[0] < 400:
                del sessions[data["Session"]]
                if name == "NEW_PASSWORD_REQUIRED":
                    return remember(second_factor(pool, pool_id, user) or answer, pool_id, client_id, user)
            return answer
        return respond

    def setting_up(data):
        """The MFA_SETUP session of a request without an access token, if it is one."""
        session = sessions.get(data.get("Session"))
        usable = session and session["challenge"] == "MFA_SETUP" and session["until"] > time.time()
        return session if usable and not data.get("AccessToken") else None

    def make_associate(original):
        def associate_software_token(data):
            session = setting_up(data)
            if not session and not data.get("AccessToken"):
                return refused()
            answer = original(data)
            if session:
                sessions[json.loads(answer[2])["Session"]] = sessions.pop(data["Session"])
            return answer
        return associate_software_token

    def make_verify(original):
        def verify_software_token(data):
            session = setting_up(data)
            if not session and not data.get("AccessToken"):
                return refused()
            secret = cognito._totp_session_secrets.get(data.get("Session"))
            answer = original(data)
            if session and answer[0] < 400:
                user = cognito._get_pool_unscoped(session["pool"])["_users"][session["user"]]
                user["_totp_secret"] = secret
                user["_mfa_enabled"] = ["SOFTWARE_TOKEN_MFA"]
                sessions[json.loads(answer[2])["Session"]] = {**sessions.pop(data["Session"]), "verified": True}
            return answer
        return verify_software_token

    def make_page(original):
        def authenticate_hosted_ui_user(pool, username, password):
            user, message = original(pool, username, password)
            if user and (pool.get("MfaConfiguration") == "ON" or
                         cognito._mfa_challenge_for_user(pool, user, pool["Id"], username)):
                return None, "A second factor is needed, and the local pages cannot ask for it."
            return user, message
        return authenticate_hosted_ui_user

    wrap(cognito, "_password_auth_result", make_password)
    wrap(cognito, "_respond_to_auth_challenge", make_respond)
    wrap(cognito, "_admin_respond_to_auth_challenge", make_respond)
    wrap(cognito, "_associate_software_token", make_associate)
    wrap(cognito, "_verify_software_token", make_verify)
    wrap(cognito, "_authenticate_hosted_ui_user", make_page)


def identity_providers_in_templates():
    """AWS::Cognito::UserPoolIdentityProvider is a resource, whose Ref is the provider's name."""
    from ministack.services import cognito
    from ministack.services.cloudformation import provisioners

    def call(operation, properties):
        status, _, body = operation(properties)
        if status >= 400:
            raise ValueError(f"AWS::Cognito::UserPoolIdentityProvider failed: {body!r}")
        return properties["ProviderName"], {}

    provisioners._RESOURCE_HANDLERS["AWS::Cognito::UserPoolIdentityProvider"] = {
        "create": lambda _id, properties, _stack: call(cognito._create_identity_provider, properties),
        "update": lambda _id, _old, properties, _stack: call(cognito._update_identity_provider, properties),
        "delete": lambda _name, properties: call(cognito._delete_identity_provider, properties),
    }


# --- Transport and latency --------------------------------------------------------------------------------------------

def loopback_is_secure():
    """Requests over the loopback interface count as aws:SecureTransport.

    AWS: the key says whether a request came over TLS, and the bucket policies deny those that did not. The local
    endpoint is plain HTTP on 127.0.0.1, where nobody can listen in, so there the denial has nothing to protect and
    would refuse every local request.
    """
    from ministack import app

    def make_pin(original):
        def pin_request_origin(source_ip, secure_transport):
            try:
                loopback = ipaddress.ip_address(source_ip).is_loopback
            except ValueError:
                loopback = False
            return original(source_ip, secure_transport or loopback)
        return pin_request_origin

    wrap(app, "pin_request_origin", make_pin)


def latency():
    """An invocation costs what the function costs.

    A Lambda's Runtime API answers in two small writes, and Nagle's algorithm holds the second until the first is
    acknowledged, 40 ms later. And MiniStack waits 50 ms for the log line of a function that printed none; a line
    reaches it within a millisecond or two.
    """
    from ministack.core import lambda_runtime

    socketserver.StreamRequestHandler.disable_nagle_algorithm = True

    def make_drain(original):
        def drain(self, first_line_wait=0.010, idle_confirm=0.005, hard_cap=0.250):
            return original(self, first_line_wait, idle_confirm, hard_cap)
        return drain

    wrap(lambda_runtime.Worker, "_drain_stderr_bounded", make_drain)


# --- API Gateway ------------------------------------------------------------------------------------------------------

_api_request = contextvars.ContextVar("sluice_api_request", default={})


def authorizer_identity_sources():
    """A REST API's REQUEST authorizer may have $context variables among its identity sources.

    AWS, "Configure an API Gateway Lambda authorizer": request parameters of the types header, query string, stage variable
    and $context. What they hold for a request is the key of the cached answer. MiniStack takes each $context variable for
    one that the request lacks, and with a cache answers every request with 401.
    """
    from ministack.services import apigateway_v1

    def make_authorize(original):
        async def authorize_request_v1(api_id, stage_name, method_obj, method, request_path, resource, headers, *more):
            _api_request.set({
                "apiId": api_id, "stage": stage_name, "httpMethod": method, "path": f"/{stage_name}{request_path}",
                "resourceId": resource["id"], "resourcePath": resource["path"], "identity.sourceIp": "127.0.0.1",
                "identity.userAgent": apigateway_v1._header_ci(headers, "user-agent") or ""})
            return await original(
                api_id, stage_name, method_obj, method, request_path, resource, headers, *more)
        return authorize_request_v1

    def make_sources(original):
        def request_identity_sources(identity_source, headers, query_params, stage):
            sources = [source.strip() for source in (identity_source or "").split(",") if source.strip()]
            values = [_api_request.get().get(source.removeprefix("context."), "") if source.startswith("context.")
                      else original(source, headers, query_params, stage)[1][0] for source in sources]
            return all(values), values
        return request_identity_sources

    wrap(apigateway_v1, "_authorize_request_v1", make_authorize)
    wrap(apigateway_v1, "_request_identity_sources", make_sources)


COGNITO_NUMBERS = ("MinimumLength", "TemporaryPasswordValidityDays", "IdTokenValidity", "AccessTokenValidity",
                   "RefreshTokenValidity")


def numbers_in_templates():
    """A Number parameter of a template is a number: MiniStack keeps an event source's MaximumConcurrency as a string,
    and its poller fails on it; likewise with the numbers of user pools, their app clients, and an API's authorizers."""
    from ministack.services import cognito, lambda_svc
    from ministack.services.cloudformation import provisioners

    def make_cognito(original):
        def store(data):
            policies = data.get("Policies") or {}
            for settings in (data, policies.get("PasswordPolicy") or {}):
                settings.update({name: int(settings[name]) for name in COGNITO_NUMBERS if settings.get(name)})
            return original(data)
        return store

    for name in ("_create_user_pool", "_update_user_pool", "_create_user_pool_client", "_update_user_pool_client"):
        wrap(cognito, name, make_cognito)

    def make_authorizer(original):
        def store(*arguments, **named):
            ttl = "AuthorizerResultTtlInSeconds"
            return original(*({**it, ttl: int(it[ttl])} if isinstance(it, dict) and it.get(ttl) else it
                              for it in arguments), **named)
        return store

    for kind in ("AWS::ApiGatewayV2::Authorizer", "AWS::ApiGateway::Authorizer"):
        handlers = provisioners._RESOURCE_HANDLERS[kind]
        for step in ("create", "update"):
            handlers[step] = make_authorizer(handlers[step])

    def make(original):
        def sqs_esm_concurrency(esm, *rest):
            scaling = esm.get("ScalingConfig") or {}
            if isinstance(scaling.get("MaximumConcurrency"), str):
                esm["ScalingConfig"] = {**scaling, "MaximumConcurrency": int(scaling["MaximumConcurrency"])}
            return original(esm, *rest)

        return sqs_esm_concurrency

    wrap(lambda_svc, "_sqs_esm_concurrency", make)


def origins_in_templates():
    """The CorsConfiguration that a template gives an HTTP API is heeded: MiniStack keeps it under a template's names
    (AllowOrigins) and looks for the service's own (allowOrigins)."""
    from ministack.services import apigateway

    def make(original):
        def cors(configuration, origin):
            return original({f"{name[:1].lower()}{name[1:]}": value for name, value in (configuration or {}).items()}, origin)
        return cors

    for name in ("_cors_response_headers", "_cors_preflight_response"):
        wrap(apigateway, name, make)


PATCHES = (
    principal_tags,
    server_side_token_check,
    role_mappings,
    openid_connect_logins,
    openid_connect_providers_in_templates,
    policy_variables,
    principal_arn,
    s3_condition_keys,
    s3_object_names,
    one_tag_once,
    dynamodb_leading_keys,
    kms_condition_keys,
    log_stream_arn,
    state_machine_role,
    retry_delay,
    queue_batch_actions,
    message_move_tasks,
    identity_tokens,
    write_attributes,
    post_confirmation,
    challenge_sessions,
    identity_providers_in_templates,
    loopback_is_secure,
    authorizer_identity_sources,
    numbers_in_templates,
    origins_in_templates,
    latency,
)


def main():
    try:
        check_version()
        from ministack.app import main as serve
        for patch in PATCHES:
            patch()
    except (Refused, ImportError) as error:
        sys.exit(f"local AWS not started: {error}")
    serve()


if __name__ == "__main__":
    main()
