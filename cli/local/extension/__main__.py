"""Starts MiniStack with every rule of this package in place."""

import sys

from .api_gateway import authorizer_identity_sources, iam_routes, origins_in_templates
from .change_sets import change_sets_without_resources, replaced_by_their_names
from .composite_alarms import composite_alarms_in_templates
from .dynamodb import dynamodb_leading_keys
from .dynamodb_queries import sorted_partitions
from .faults import faults
from .functions import every_line, latency, own_runtime_api
from .iam import policy_variables, principal_arn
from .identity_pool import identity_tokens, server_side_token_check
from .identity_pool_roles import role_mappings
from .identity_pool_tags import principal_tags
from .kms import kms_condition_keys
from .limits import boolean_conditions, state_data, update_paths
from .logs import groups_during_invocations, log_pages, log_stream_arn
from .loopback import closed_loopback
from .openid_connect import openid_connect_logins, openid_connect_providers_in_templates
from .recordings import recordings
from .replacing import Refused, check_version
from .rollback_triggers import rollback_triggers
from .root import function_secrets, root_secret
from .s3 import (
    one_tag_once, overrides_of_versions, s3_condition_keys, s3_object_names, tags_below_a_delete_marker)
from .sign_in import challenge_sessions
from .sign_out import icon_of_pages, revocation_endpoint
from .sign_up import post_confirmation
from .sqs import fair_queues, queue_batch_actions
from .step_functions import retry_delay, state_machine_role
from .templates import numbers_in_templates
from .transport import loopback_is_secure
from .user_pool import (
    identity_providers_in_templates, lists_during_changes, lookups_during_changes, verification_before_update, write_attributes)

RULES = (
    principal_tags,
    server_side_token_check,
    role_mappings,
    openid_connect_logins,
    openid_connect_providers_in_templates,
    # Around the rule of logins above, which iterates too.
    lookups_during_changes,
    lists_during_changes,
    policy_variables,
    principal_arn,
    s3_condition_keys,
    s3_object_names,
    one_tag_once,
    overrides_of_versions,
    tags_below_a_delete_marker,
    dynamodb_leading_keys,
    sorted_partitions,
    kms_condition_keys,
    log_stream_arn,
    log_pages,
    groups_during_invocations,
    state_machine_role,
    retry_delay,
    state_data,
    boolean_conditions,
    update_paths,
    queue_batch_actions,
    fair_queues,
    identity_tokens,
    # This comes before the next rule: attributes that a client may not write are not verified.
    verification_before_update,
    write_attributes,
    post_confirmation,
    challenge_sessions,
    revocation_endpoint,
    icon_of_pages,
    identity_providers_in_templates,
    loopback_is_secure,
    authorizer_identity_sources,
    iam_routes,
    numbers_in_templates,
    change_sets_without_resources,
    replaced_by_their_names,
    rollback_triggers,
    composite_alarms_in_templates,
    origins_in_templates,
    latency,
    every_line,
    recordings,
    faults,
    own_runtime_api,
    function_secrets,
    root_secret,
    closed_loopback,
)


def main():
    try:
        check_version()
        from ministack.app import main as serve
        for rule in RULES:
            rule()
    except (Refused, ImportError) as error:
        sys.exit(f"local AWS not started: {error}")
    serve()


if __name__ == "__main__":
    main()
