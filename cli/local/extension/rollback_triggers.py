"""CloudFormation: rollback triggers. MiniStack ignores them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-rollback-triggers.html
The alarms are looked at once everything is deployed, and from then on. What an update removes is gone by then, so a rollback
here does not bring it back as AWS does.
"""

import asyncio
import time

from .replacing import wrap

# How often the alarms are looked at, in seconds.
PAUSE = 0.2
STACK = "AWS::CloudFormation::Stack"


def configuration(params):
    """The RollbackConfiguration of a request: minutes and ARNs; None if the request has none."""
    prefix = "RollbackConfiguration."
    if not any(name.startswith(prefix) for name in params):
        return None
    from ministack.services.cloudformation.helpers import _p

    arns = []
    while arn := _p(params, f"{prefix}RollbackTriggers.member.{len(arns) + 1}.Arn"):
        arns.append(arn)
    return int(_p(params, f"{prefix}MonitoringTimeInMinutes", "0") or "0"), arns


def complaint(arns):
    """Why an update is rolled back, or None."""
    from ministack.services import cloudwatch

    for arn in arns:
        name = arn.split(":alarm:")[-1]
        alarm = cloudwatch._alarms.get(name) or cloudwatch._composite_alarms.get(name)
        if not alarm:
            return f"Rollback trigger {arn} does not exist"
        if alarm["StateValue"] == "ALARM":
            return f"Alarm {arn} went to ALARM state, so the operation is rolled back"
    return None


def rollback_triggers():
    """An update is rolled back when one of its alarms is in ALARM while it is deployed or monitored, or does not exist."""
    from ministack.services import cloudformation
    from ministack.services.cloudformation import changesets, stacks
    from ministack.services.cloudformation.helpers import _p

    def with_configuration(original):
        def create_change_set(params):
            answer = original(params)
            _, made = changesets._find_change_set(_p(params, "ChangeSetName"), _p(params, "StackName"))
            if made and (asked := configuration(params)) is not None:
                made["_rollback"] = asked
            return answer
        return create_change_set

    def tracked(original):
        async def track(change_set, stack, deploy):
            # A stack keeps its triggers until a request has others.
            if "_rollback" in change_set:
                stack["_rollback"] = change_set["_rollback"]
            return await original(change_set, stack, deploy)
        return track

    def monitored(original):
        async def deploy(name, stack_id, template, parameters, disable_rollback, tags, is_update=False,
                         previous_stack=None, **others):
            await original(name, stack_id, template, parameters, disable_rollback, tags, is_update=is_update,
                           previous_stack=previous_stack, **others)
            stack = cloudformation._stacks[name]
            minutes, arns = stack.get("_rollback", (0, []))
            if not is_update or stack["StackStatus"] != "UPDATE_COMPLETE" or not (minutes or arns):
                return
            # Nobody has seen the end of the update: nothing was awaited since.
            stack["StackStatus"] = "UPDATE_IN_PROGRESS"
            events = cloudformation._stack_events[stack_id]
            last = events.pop() if events[-1]["ResourceStatus"] == "UPDATE_COMPLETE" else None
            deadline = time.monotonic() + 60 * minutes
            while not (why := complaint(arns)) and time.monotonic() < deadline:
                await asyncio.sleep(PAUSE)
            if why:
                made = [it for it in template.get("Resources", {}) if it in stack["_resources"]]
                operation = stacks._failed_operation(
                    True, previous_stack, made, None, None, [], False, template, parameters, False, tags,
                    (previous_stack or {}).get("Tags") or [])
                await stacks._roll_back_operation(name, stack_id, stack, operation, reason_override=why)
                return
            stack["StackStatus"] = "UPDATE_COMPLETE"
            if last:
                events.append(last)
        return deploy

    actions = cloudformation._ACTION_HANDLERS
    actions["CreateChangeSet"] = with_configuration(actions["CreateChangeSet"])
    wrap(changesets, "_track_change_set_execution", tracked)
    wrap(changesets, "_deploy_stack_async", monitored)
