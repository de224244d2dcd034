"""Identity pools: the role of a user, by the pool's role mappings."""

import contextvars

from .identity_pool import setting_name
from .replacing import wrap

_custom_role = contextvars.ContextVar("sluice_custom_role", default=None)
RULE_MATCHES = {
    "Equals": lambda found, value: found == value,
    "NotEqual": lambda found, value: found != value,
    "Contains": lambda found, value: value in found,
    "StartsWith": lambda found, value: found.startswith(value),
}


def mapped_roles(pool, provider, claims):
    """The roles that a login may have, the default one first."""
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
    """An identity pool's role mappings of the type Rules choose the role; CustomRoleArn can choose only among their
    results.

    AWS, "Using role-based access control": rules are evaluated in order, and the role of the first match is used,
    unless CustomRoleArn names another matching one. If none matches, AmbiguousRoleResolution decides. A mapping
    belongs to a user pool's app client (`provider:client`) or to a provider; a provider without one gives the default
    role. AWS does not document a call with several logins. Here such a call may have any role that one of them gives:
    a trust policy that is safe in this reading is safe in a narrower one. The texts of the refusals are ours.
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
            # In a template the key is a fixed text. A provider whose name only the deployment knows is therefore
            # named beside it.
            mappings = {mapping.get("IdentityProvider") or key:
                        {name: value for name, value in mapping.items() if name != "IdentityProvider"}
                        for key, mapping in (properties.get("RoleMappings") or {}).items()}
            return original({**properties, "RoleMappings": mappings})
        return apply

    wrap(sts, "register_session", make_register)
    wrap(cognito, "_get_credentials_for_identity", make_credentials)
    wrap(cognito, "_set_identity_pool_roles", make_set_roles)
    wrap(provisioners, "_cognito_identity_pool_role_attachment_apply", make_apply)
