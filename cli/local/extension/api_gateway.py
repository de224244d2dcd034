"""API Gateway: the identity sources of an authorizer, routes that IAM authorizes, and an API's CORS settings."""

import contextvars

from .replacing import wrap

_api_request = contextvars.ContextVar("sluice_api_request", default={})


def authorizer_identity_sources():
    """A REST API's REQUEST authorizer may have $context variables among its identity sources.

    AWS, "Configure an API Gateway Lambda authorizer": request parameters of the types header, query string, stage
    variable and $context. Their values in a request are the key of the cached answer. MiniStack treats each $context
    variable as one that the request lacks, and with a cache answers every request with 401.
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


def iam_routes():
    """An HTTP API's route with AWS_IAM serves only signed requests.

    AWS, "Control access to HTTP APIs with IAM authorization": callers must sign with Signature Version 4. MiniStack
    compares a signed request with its caller's policies, but admits one with an Authorization header of another kind,
    such as a token.
    """
    from ministack import app
    from ministack.core import iam_evaluator
    from ministack.core.responses import get_account_id
    from ministack.core.router import extract_access_key_id
    from ministack.services import apigateway

    def make(original):
        def enforce_execute_api(api_id, stage, method, execute_path, headers, query_params, **more):
            if app._execute_api_authorization_type(api_id, stage, method, execute_path) == "AWS_IAM":
                signed = (headers.get("authorization", "").startswith("AWS4-HMAC-SHA256 ")
                          or iam_evaluator._query_signed(query_params or {}))
                if not signed or not extract_access_key_id(headers, query_params):
                    return 403, {"Content-Type": "application/json"}, b'{"message":"Forbidden"}'
            return original(api_id, stage, method, execute_path, headers, query_params, **more)
        return enforce_execute_api

    def make_identity(original):
        def iam_caller_identity(headers, query_params):
            key = extract_access_key_id(headers, query_params)
            root = {"accessKey": key, "accountId": get_account_id(), "callerId": get_account_id(), "principalOrgId": None,
                    "userArn": f"arn:aws:iam::{get_account_id()}:root", "userId": get_account_id()}
            return root if key and iam_evaluator.is_root_access_key(key) else original(headers, query_params)
        return iam_caller_identity

    wrap(app, "_enforce_execute_api", make)
    # MiniStack does not know the root by the key of this start (`root_secret`).
    wrap(apigateway, "_iam_caller_identity_v2", make_identity)


def origins_in_templates():
    """An HTTP API heeds the CorsConfiguration of its template. MiniStack stores it under a template's names
    (AllowOrigins), and looks for the service's own (allowOrigins)."""
    from ministack.services import apigateway

    def make(original):
        def cors(configuration, origin):
            return original({f"{name[:1].lower()}{name[1:]}": value for name, value in (configuration or {}).items()}, origin)
        return cors

    for name in ("_cors_response_headers", "_cors_preflight_response"):
        wrap(apigateway, name, make)
