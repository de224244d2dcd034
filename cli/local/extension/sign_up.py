"""User pools: the function that a pool calls after a sign-up."""

import json

from .replacing import wrap


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
