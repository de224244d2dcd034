"""CloudWatch: composite alarms in templates. MiniStack has composite alarms, but CloudFormation does not know the type there."""

from .replacing import Refused

KIND = "AWS::CloudWatch::CompositeAlarm"


def composite_alarms_in_templates():
    """AWS::CloudWatch::CompositeAlarm is a resource, and its Ref is the alarm's name."""
    from ministack.services import cloudwatch
    from ministack.services.cloudformation import provisioners

    if KIND in provisioners._RESOURCE_HANDLERS:
        raise Refused("ministack knows composite alarms in templates by itself")

    def put(name, properties):
        body = {key: value for key, value in properties.items() if key != "Tags"} | {"AlarmName": name}
        status, _, answer = cloudwatch._put_composite_alarm({}, body, False, True)
        if status >= 400:
            raise ValueError(f"{KIND} failed: {answer!r}")
        return name, {"Arn": cloudwatch._composite_alarms[name]["AlarmArn"]}

    def create(logical_id, properties, stack):
        return put(properties.get("AlarmName") or provisioners._physical_name(stack, logical_id, max_len=255), properties)

    def update(name, old, properties, stack):
        if properties.get("AlarmName", name) == name:
            return put(name, properties)
        created = create(name, properties, stack)
        delete(name, old)
        return created

    def delete(name, _properties):
        cloudwatch._composite_alarms.pop(name, None)
        cloudwatch._composite_triggers.pop(name, None)

    provisioners._RESOURCE_HANDLERS[KIND] = {"create": create, "update": update, "delete": delete}
