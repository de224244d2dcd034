"""Step Functions: the state machine's role, and the delay of a retry."""

import contextvars
import random
import re

from .dynamodb import leading_keys
from .keys import one_or_many
from .replacing import wrap

_machine_role = contextvars.ContextVar("sluice_machine_role", default="")
INTEGRATION = re.compile(r"arn:aws:states:::(?:aws-sdk:)?(lambda|dynamodb|sns|sqs|states):(\w+)")
# The error that an optimized integration reports if the role may not make the call.
INTEGRATION_ERRORS = {"lambda": "Lambda.AWSLambdaException", "dynamodb": "DynamoDB.AmazonDynamoDBException",
                      "sns": "SNS.AmazonSNSException", "sqs": "SQS.AmazonSQSException",
                      "states": "StepFunctions.AWSStepFunctionsException"}


def integration_target(resource, arguments, account, region):
    """(service, IAM action, resource ARN) of a task's call, or None if this module does not check it."""
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
    """A state machine calls other services as its role, and fails if the role may not.

    AWS: each task's call is authorized for the state machine's role, by the role's policies and the resource's own.
    This rule checks tasks that invoke functions, write to DynamoDB, publish, send, or start executions.
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
    """A retrier's MaxDelaySeconds and JitterStrategy take effect.

    AWS, "Error handling": MaxDelaySeconds limits the interval that BackoffRate increases; with JitterStrategy FULL
    the delay is random between zero and that interval.
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
