"""User pools: the attributes that an app client may write, verification before a change, identity providers in templates, and
lookups and lists beside other requests."""

from .replacing import wrap

# The code that MiniStack sends to everybody.
CODE = "123456"
# Attributes that only Cognito or an administrator sets, whatever an app client's WriteAttributes are.
NEVER_WRITABLE = {"sub", "identities", "email_verified", "phone_number_verified", "cognito:user_status"}


def attribute_error(cognito, pool, client, attributes, creating):
    """The error of AWS if this app client may not write one of these attributes, or None."""
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
    """UpdateUserAttributes and SignUp respect the app client's WriteAttributes and the pool's sign-up setting.

    AWS: an app client writes only the attributes in its WriteAttributes; without that list it may write the standard
    attributes and every mutable custom attribute. The access token names the client. With AllowAdminCreateUserOnly
    nobody can sign up.
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


def verification_before_update():
    """If the pool's AttributesRequireVerificationBeforeUpdate says so, a new address counts once the user has entered
    its code.

    AWS, "Verifying updates to email addresses and phone numbers": Cognito sends a code to the new address and keeps
    the old one, for sign-in too, until VerifyUserAttribute gets the code. A change by an administrator takes effect
    at once.
    """
    from ministack.services import cognito

    waiting = {}  # (pool id, user's sub, attribute): its new value

    def place(pool, user, name):
        return pool["Id"], cognito._attr_list_to_dict(user["Attributes"]).get("sub"), name

    def make_update(original):
        def update_user_attributes(data):
            user, pool = cognito._user_pool_for_access_token(data.get("AccessToken") or "")
            if not user:
                return original(data)
            settings = pool.get("UserAttributeUpdateSettings") or {}
            guarded = settings.get("AttributesRequireVerificationBeforeUpdate") or []
            current = cognito._attr_list_to_dict(user["Attributes"])
            kept, sent = [], {}
            for attribute in data.get("UserAttributes") or []:
                name, value = attribute.get("Name"), attribute.get("Value", "")
                if name in guarded and value != current.get(name):
                    sent[name] = value
                else:
                    kept.append(attribute)
            status, headers, body = original({**data, "UserAttributes": kept})
            if status != 200 or not sent:
                return status, headers, body
            for name, value in sent.items():
                waiting[place(pool, user, name)] = value
            return cognito.json_response({"CodeDeliveryDetailsList": [
                {"AttributeName": name, "DeliveryMedium": "EMAIL" if name == "email" else "SMS", "Destination": f"{value[:1]}***"}
                for name, value in sent.items()]})
        return update_user_attributes

    def verify_user_attribute(data):
        user, pool = cognito._user_pool_for_access_token(data.get("AccessToken") or "")
        if not user:
            return cognito.error_response_json("NotAuthorizedException", "Invalid Access Token", 400)
        name = data.get("AttributeName")
        key = place(pool, user, name)
        if key not in waiting:
            return cognito.error_response_json("ExpiredCodeException", "Invalid code provided, please request a code again.", 400)
        if data.get("Code") != CODE:
            return cognito.error_response_json(
                "CodeMismatchException", "Invalid verification code provided, please try again.", 400)
        changed = [{"Name": name, "Value": waiting.pop(key)}, {"Name": f"{name}_verified", "Value": "true"}]
        user["Attributes"] = cognito._merge_attributes(user["Attributes"], changed)
        return cognito.json_response({})

    def make_dispatch(original):
        async def dispatch(action, data):
            if action == "VerifyUserAttribute":
                return cognito._run_idp_handler(verify_user_attribute, action, data)
            return await original(action, data)
        return dispatch

    cognito._UNSIGNED_IDP_ACTIONS.add("VerifyUserAttribute")
    wrap(cognito, "_update_user_attributes", make_update)
    wrap(cognito, "_dispatch_idp", make_dispatch)


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


def lookups_during_changes():
    """A user, or the identity of a login, is found while other requests add some.

    AWS serves requests side by side. MiniStack iterates over a dictionary that another request may change meanwhile, and then
    answers 500.
    """
    from ministack.services import cognito

    def in_a_copy_of(member):
        def make_look_up(original):
            def look_up(pool, wanted):
                return original({**pool, member: pool[member].copy()}, wanted)
            return look_up
        return make_look_up

    def make_user_from_token(original):
        def user_from_token(token, pool):
            return original(token, {**pool, "_users": pool["_users"].copy()})
        return user_from_token

    wrap(cognito, "_resolve_user", in_a_copy_of("_users"))
    wrap(cognito, "_user_from_token", make_user_from_token)
    wrap(cognito, "_login_owner", in_a_copy_of("_identities"))


def lists_during_changes():
    """A page of ListUsers begins behind the last user of the one before, whoever is deleted meanwhile.

    MiniStack counts the users, and skips one for each that is deleted between two pages.
    """
    from ministack.core.responses import json_response
    from ministack.services import cognito

    def make_list_users(_original):
        def list_users(data):
            pool, error = cognito._resolve_pool(data.get("UserPoolId"))
            if error:
                return error
            users = sorted(pool["_users"].copy().values(), key=lambda user: user["Username"])
            if data.get("Filter"):
                users = cognito._apply_user_filter(users, data["Filter"])
            rest = [user for user in users if user["Username"] > data.get("PaginationToken", "")]
            limit = min(data.get("Limit") or 60, 60)
            page = rest[:limit]
            more = {"PaginationToken": page[-1]["Username"]} if len(rest) > limit else {}
            return json_response({"Users": [cognito._user_out(user) for user in page], **more})
        return list_users

    wrap(cognito, "_list_users", make_list_users)
