"""CloudFormation: the content of a change set."""

from .replacing import Refused

# The createOnlyProperties of the types' schemas (cfn-lint 1.51.0 has them). MiniStack calls a replacement that it
# does not know "Conditionally".
REPLACING = {
    "AWS::KMS::Key": (),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix", "BucketNamespace"),
}


def replaced_by_their_names():
    """A key, a log group and a bucket are replaced only when their names change; every other change happens in place."""
    from ministack.services.cloudformation import provisioners

    table = getattr(provisioners, "_REPLACING_PROPERTIES", None)
    if not isinstance(table, dict) or table.keys() & REPLACING.keys():
        raise Refused("ministack knows by itself which changes replace keys, log groups and buckets, or knows it elsewhere")
    table.update(REPLACING)


def change_sets_without_resources():
    """A change set that changes no resource, but an output or a parameter, can be executed, as with MiniStack's UpdateStack."""
    from ministack.services import cloudformation
    from ministack.services.cloudformation import handlers

    def make(original):
        def create_change_set(params):
            answer = original(params)
            made = [it for it in cloudformation._change_sets.values()
                    if it["StackName"] == handlers._p(params, "StackName")
                    and it["ChangeSetName"] == handlers._p(params, "ChangeSetName")]
            for it in made:
                stack = cloudformation._stacks.get(it["StackName"])
                empty = it["Status"] == "FAILED" and not it["Changes"] and "didn't contain changes" in it["StatusReason"]
                if empty and stack and not handlers._stack_has_no_updates(
                        stack, it["_template"], it["_resolved_params"], it["Tags"], tags_given=it["_tags_given"]):
                    it.update(Status="CREATE_COMPLETE", ExecutionStatus="AVAILABLE", StatusReason="")
            return answer
        return create_change_set

    actions = cloudformation._ACTION_HANDLERS
    actions["CreateChangeSet"] = make(actions["CreateChangeSet"])
