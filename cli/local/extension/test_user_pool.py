"""The attributes that an app client may write, identity providers in templates, and lookups and lists beside other
requests."""

import base64
import json

import pytest
from botocore.exceptions import ClientError

from .test_support import CODE, PASSWORD, Pool, allowed, failure
from .user_pool import lookups_during_changes


def write(world, app, name, value="x"):
    token = world.sign_in("bob", app)["AccessToken"]
    return allowed(world.client("cognito-idp").update_user_attributes, AccessToken=token,
                   UserAttributes=[{"Name": name, "Value": value}])


def test_write_attributes_of_the_app_client(world):
    assert write(world, world.closed_app, "name")
    assert not write(world, world.closed_app, "custom:write", "a")
    assert not write(world, world.closed_app, "custom:read", "a")
    assert not write(world, world.closed_app, "email_verified", "true")
    found = world.client("cognito-idp").admin_get_user(UserPoolId=world.pool, Username="bob")["UserAttributes"]
    assert {"Name": "custom:write", "Value": "b"} in found
    assert {"Name": "name", "Value": "x"} in found


def test_app_client_without_write_attributes_writes_all_mutable_ones(world):
    assert write(world, world.open_app, "custom:write", "b")
    assert not write(world, world.open_app, "email_verified", "true")
    with pytest.raises(ClientError, match="cannot be updated"):
        write(world, world.open_app, "custom:fixed")


def test_access_token_must_be_genuine(world):
    token = world.sign_in("bob", world.open_app)["AccessToken"]
    header, _, signature = token.split(".")
    forged = ".".join((header, world.sign_in("alice", world.open_app)["AccessToken"].split(".")[1], signature))
    update = world.client("cognito-idp").update_user_attributes
    attributes = [{"Name": "name", "Value": "y"}]
    assert allowed(update, AccessToken=token, UserAttributes=attributes)
    assert not allowed(update, AccessToken=forged, UserAttributes=attributes)
    assert not allowed(update, AccessToken=world.sign_in("bob")["IdToken"], UserAttributes=attributes)


def test_access_token_of_a_deleted_app_client_writes_nothing(world):
    idp = world.client("cognito-idp")
    app = idp.create_user_pool_client(UserPoolId=world.pool, ClientName="gone", ExplicitAuthFlows=[
        "ALLOW_USER_PASSWORD_AUTH"])["UserPoolClient"]["ClientId"]
    assert write(world, app, "name")
    idp.delete_user_pool_client(UserPoolId=world.pool, ClientId=app)
    assert not write(world, app, "name")


def test_sign_up(world):
    def sign_up(app, **attributes):
        return allowed(world.client("cognito-idp").sign_up, ClientId=app, Username=world.key("new"), Password=PASSWORD,
                       UserAttributes=[{"Name": name.replace("_", ":"), "Value": value}
                                       for name, value in attributes.items()])
    assert sign_up(world.closed_app, name="New")
    assert not sign_up(world.closed_app, custom_write="a")
    assert sign_up(world.open_app, custom_write="a")
    assert not sign_up(world.invited_app)


def test_identity_provider_in_a_template(world):
    template = {
        "Parameters": {"Minutes": {"Type": "Number", "Default": 10}, "Mapped": {"Type": "String", "Default": "mail"}},
        "Resources": {
            "Pool": {"Type": "AWS::Cognito::UserPool", "Properties": {"UserPoolName": "templated"}},
            "App": {"Type": "AWS::Cognito::UserPoolClient", "Properties": {
                "UserPoolId": {"Ref": "Pool"}, "IdTokenValidity": {"Ref": "Minutes"},
                "TokenValidityUnits": {"IdToken": "minutes"}, "SupportedIdentityProviders": [{"Ref": "Provider"}]}},
            "Provider": {"Type": "AWS::Cognito::UserPoolIdentityProvider", "Properties": {
                "UserPoolId": {"Ref": "Pool"}, "ProviderName": "institute", "ProviderType": "SAML",
                "ProviderDetails": {"MetadataURL": "https://idp.example/metadata"},
                "AttributeMapping": {"email": {"Ref": "Mapped"}}}}},
        "Outputs": {"Pool": {"Value": {"Ref": "Pool"}}, "App": {"Value": {"Ref": "App"}}}}
    cloudformation, idp = world.client("cloudformation"), world.client("cognito-idp")
    cloudformation.create_stack(StackName="templated", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_create_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    outputs = {output["OutputKey"]: output["OutputValue"]
               for output in cloudformation.describe_stacks(StackName="templated")["Stacks"][0]["Outputs"]}
    app = idp.describe_user_pool_client(UserPoolId=outputs["Pool"], ClientId=outputs["App"])["UserPoolClient"]
    assert (app["IdTokenValidity"], app["SupportedIdentityProviders"]) == (10, ["institute"])

    def mapping():
        return idp.describe_identity_provider(UserPoolId=outputs["Pool"], ProviderName="institute")[
            "IdentityProvider"]["AttributeMapping"]

    assert mapping() == {"email": "mail"}
    cloudformation.update_stack(StackName="templated", UsePreviousTemplate=True,
                                Parameters=[{"ParameterKey": "Mapped", "ParameterValue": "email"}])
    cloudformation.get_waiter("stack_update_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    assert mapping() == {"email": "email"}
    del template["Resources"]["Provider"], template["Resources"]["App"], template["Outputs"]["App"]
    cloudformation.update_stack(StackName="templated", TemplateBody=json.dumps(template))
    cloudformation.get_waiter("stack_update_complete").wait(StackName="templated", WaiterConfig={"Delay": 1})
    assert failure(mapping)[0] == "ResourceNotFoundException"


def changed(world, **options):
    """A pool with a user whose address is to change, the access token, and the answer to the change."""
    pool = Pool(world, **options)
    pool.sign_up("old@a.example")
    pool.confirm("old@a.example")
    token = pool.sign_in("old@a.example")["AuthenticationResult"]["AccessToken"]
    answer = pool.idp.update_user_attributes(AccessToken=token, UserAttributes=[
        {"Name": "email", "Value": "new@a.example"}, {"Name": "name", "Value": "x"}])
    return pool, token, answer["CodeDeliveryDetailsList"]


VERIFIED_FIRST = {"UserAttributeUpdateSettings": {"AttributesRequireVerificationBeforeUpdate": ["email"]}}


def address(pool, name="old@a.example"):
    attributes = pool.user(name)[1]
    return attributes["email"], attributes["email_verified"]


def test_a_new_address_counts_once_its_code_is_entered(world):
    pool, token, sent = changed(world, **VERIFIED_FIRST)
    assert [(each["AttributeName"], each["DeliveryMedium"]) for each in sent] == [("email", "EMAIL")]
    assert "new@a.example" not in sent[0]["Destination"]
    assert address(pool) == ("old@a.example", "true")
    assert pool.user("old@a.example")[1]["name"] == "x"
    verify = pool.idp.verify_user_attribute
    assert failure(verify, AccessToken=token, AttributeName="email", Code="000000")[0] == "CodeMismatchException"
    assert failure(verify, AccessToken=token, AttributeName="phone_number", Code=CODE)[0] == "ExpiredCodeException"
    assert failure(verify, AccessToken=token + "x", AttributeName="email", Code=CODE)[0] == "NotAuthorizedException"
    assert address(pool) == ("old@a.example", "true")
    verify(AccessToken=token, AttributeName="email", Code=CODE)
    user = pool.idp.get_user(AccessToken=token)
    found = {each["Name"]: each["Value"] for each in user["UserAttributes"]}
    assert (found["email"], found["email_verified"]) == ("new@a.example", "true")
    assert failure(verify, AccessToken=token, AttributeName="email", Code=CODE)[0] == "ExpiredCodeException"


def test_without_the_setting_it_counts_at_once(world):
    pool, token, sent = changed(world)
    found = {each["Name"]: each["Value"] for each in pool.idp.get_user(AccessToken=token)["UserAttributes"]}
    assert sent == [] and found["email"] == "new@a.example"


def test_a_user_and_an_identity_are_found_while_others_are_added(monkeypatch):
    from ministack.services import cognito

    class Growing(dict):
        """Another request adds an entry as soon as somebody iterates."""

        def values(self):
            for value in super().values():
                yield value
                self["another"] = {}

        def items(self):
            return zip(list(self), self.values())

    for name in ("_resolve_user", "_login_owner", "_user_from_token"):
        monkeypatch.setattr(cognito, name, getattr(cognito, name))
    pool = {"_users": Growing(alice={}, bob={"Attributes": [{"Name": "sub", "Value": "7"}]}),
            "_identities": Growing(one={}, two={"Logins": {"idp.example": "token"}})}
    with pytest.raises(RuntimeError):
        cognito._resolve_user(pool, "7")
    pool["_users"].pop("another")
    lookups_during_changes()
    assert cognito._resolve_user(pool, "7") == (pool["_users"]["bob"], None)
    assert cognito._login_owner(pool, {"idp.example": "token"}) == "two"
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "7"}).encode()).decode().rstrip("=")
    pool["_users"] = Growing(alice={}, bob={"Attributes": [{"Name": "sub", "Value": "7"}]})
    assert cognito._user_from_token(f".{claims}.", pool) == pool["_users"]["bob"]


def test_a_list_of_users_skips_nobody_when_somebody_is_deleted(world):
    idp = world.client("cognito-idp")
    pool = idp.create_user_pool(PoolName="listed")["UserPool"]["Id"]
    names = [f"user-{nth}" for nth in range(6)]
    for name in reversed(names):
        idp.admin_create_user(UserPoolId=pool, Username=name, MessageAction="SUPPRESS")
    page = idp.list_users(UserPoolId=pool, Limit=2)
    seen = [user["Username"] for user in page["Users"]]
    idp.admin_delete_user(UserPoolId=pool, Username=seen[-1])
    while "PaginationToken" in page:
        page = idp.list_users(UserPoolId=pool, Limit=2, PaginationToken=page["PaginationToken"])
        seen += [user["Username"] for user in page["Users"]]
    assert seen == names
    found = idp.list_users(UserPoolId=pool, Filter='username = "user-3"')["Users"]
    assert [user["Username"] for user in found] == ["user-3"]
    with pytest.raises(ClientError, match="does not exist"):
        idp.list_users(UserPoolId="us-east-1_nowhere")
    idp.delete_user_pool(UserPoolId=pool)
