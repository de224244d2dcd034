"""CloudFormation: the numbers of a template."""

from .replacing import wrap

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
