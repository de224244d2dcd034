"""S3: condition keys, the names of objects, and their tags."""

import contextvars

from .keys import by_lower_name, one_or_many
from .replacing import wrap
from .requests import served

_s3_request = contextvars.ContextVar("sluice_s3_request", default=("", {}, {}))
EXISTING_TAG_ACTIONS = {f"s3:{verb}Object{version}{what}" for version in ("", "Version") for verb, what in (
    ("Get", ""), ("Get", "Tagging"), ("Put", "Tagging"), ("Delete", "Tagging"),
    ("Get", "Acl"), ("Put", "Acl"), ("Get", "Attributes"))}
PUT_TAGGING_ACTIONS = {"s3:PutObjectTagging", "s3:PutObjectVersionTagging"}
# Headers of a write that need another action on the object besides s3:PutObject.
WRITE_HEADER_ACTIONS = {
    "x-amz-acl": "s3:PutObjectAcl",
    "x-amz-grant-read": "s3:PutObjectAcl",
    "x-amz-grant-write": "s3:PutObjectAcl",
    "x-amz-grant-read-acp": "s3:PutObjectAcl",
    "x-amz-grant-write-acp": "s3:PutObjectAcl",
    "x-amz-grant-full-control": "s3:PutObjectAcl",
    "x-amz-object-lock-mode": "s3:PutObjectRetention",
    "x-amz-object-lock-retain-until-date": "s3:PutObjectRetention",
    "x-amz-object-lock-legal-hold": "s3:PutObjectLegalHold",
}
# Further condition keys that carry a write's header of the same name.
WRITE_HEADER_KEYS = ("x-amz-server-side-encryption-aws-kms-key-id",
                     "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class", "x-amz-copy-source",
                     "x-amz-metadata-directive")


def query_value(query, name):
    found = query.get(name) or ""
    return found[0] if isinstance(found, list) else found


def header_tags(s3, headers):
    """The tags that the x-amz-tagging header of a write gives its object; for a copy, only if it replaces tags."""
    if headers.get("x-amz-copy-source") and headers.get("x-amz-tagging-directive", "").upper() != "REPLACE":
        return {}
    given = s3._parse_qs(headers.get("x-amz-tagging", ""), keep_blank_values=True)
    return {name: values[0] for name, values in given.items()}


def copy_source_tags(s3, actions, headers):
    """(ARN, version id, tags) of a copy's source object, or None when the request copies nothing."""
    source = actions._s3_source_object(headers)
    if source is None:
        return None
    arn, version = source
    bucket, _, key = arn.removeprefix("arn:aws:s3:::").partition("/")
    return arn, version, s3.object_tags_for_condition(bucket, key, {"versionId": [version]} if version else {})


def s3_keys(s3, actions, action, resource_arn, context):
    """The condition keys of one S3 check, in addition to MiniStack's."""
    bucket, _, key = resource_arn.removeprefix("arn:aws:s3:::").partition("/")
    if not key:
        return {}
    method, body = served.get()
    path, query, headers = _s3_request.get()
    keys = {}
    # PutObjectTagging is also checked for a PutObject with tags, and then there is no existing object yet.
    sets_tags = action in PUT_TAGGING_ACTIONS and "tagging" in query
    if action in EXISTING_TAG_ACTIONS and (sets_tags or action not in PUT_TAGGING_ACTIONS):
        source = copy_source_tags(s3, actions, headers)
        if source and source[0] == resource_arn:
            version, tags = source[1], source[2]
        else:
            version = query_value(query, "versionId")
            tags = s3.object_tags_for_condition(bucket, key, query)
        keys.update(by_lower_name("s3:ExistingObjectTag", tags))
        if version and "Version" in action:
            keys["s3:versionid"] = version
    if sets_tags:
        try:
            tags = s3._parse_tags_xml(body)
        except Exception:  # A body that is no XML is refused by the handler.
            tags = {}
    elif action == "s3:PutObject" or action in PUT_TAGGING_ACTIONS:
        # A form upload is checked with its fields as keys, and has no such header.
        tags = header_tags(s3, {**headers, "x-amz-tagging":
                                headers.get("x-amz-tagging") or context.get("s3:x-amz-tagging") or ""})
    else:
        tags = {}
    if tags:
        keys.update(by_lower_name("s3:RequestObjectTag", tags))
        keys["s3:requestobjecttagkeys"] = one_or_many(tags)
    if action == "s3:PutObject":
        for name in ("if-none-match", "if-match", *WRITE_HEADER_KEYS):
            if headers.get(name):
                keys[f"s3:{name}"] = headers[name]
        partial = (method == "POST" and "uploads" in query) or (
            method == "PUT" and "uploadId" in query and "partNumber" in query)
        keys["s3:objectcreationoperation"] = str(not partial).lower()
    return keys


def s3_condition_keys():
    """S3 requests carry their tag, conditional-write and version keys, and need every action that AWS asks for.

    AWS, "Actions, resources, and condition keys for Amazon S3":
    - s3:RequestObjectTag/<key> and s3:RequestObjectTagKeys: the tags in a PutObject, CopyObject,
      CreateMultipartUpload or PutObjectTagging.
    - s3:ExistingObjectTag/<key>: the tags of the existing object, for reads, ACLs and tagging, and not for PutObject.
    - s3:if-none-match and s3:if-match: these headers of a write. s3:ObjectCreationOperation: false for
      CreateMultipartUpload and UploadPart, true for each request that creates an object.
    - A PutObject with tags also needs s3:PutObjectTagging. A copy that keeps its source's tags needs that, and
      s3:GetObjectTagging on the source. ACL and object lock headers need their own actions.
    """
    from ministack import app
    from ministack.core import iam_actions, iam_evaluator
    from ministack.services import s3

    def make_read_body(original):
        async def read_request_body(receive, method, headers):
            served.set((method, b""))
            body = await original(receive, method, headers)
            served.set((method, body))
            return body
        return read_request_body

    def make_service_context(original):
        def s3_service_context(iam_action, query_params, path="", headers=None):
            _s3_request.set((path, query_params or {}, headers or {}))
            return original(iam_action, query_params, path, headers)
        return s3_service_context

    def make_additional_checks(original):
        def s3_additional_checks(method, path, headers, body, query_params):
            checks = original(method, path, headers, body, query_params)
            parts = [part for part in path.split("/") if part]
            if (len(parts) < 2 or "uploadId" in query_params
                    or iam_actions._s3_action(method, path, query_params) != "PutObject"):
                return checks
            arn = iam_actions.extract_resource_arn("s3", method, path, headers, body, query_params, "", "")
            needed = {action for header, action in WRITE_HEADER_ACTIONS.items() if headers.get(header)}
            if header_tags(s3, headers):
                needed.add("s3:PutObjectTagging")
            source = copy_source_tags(s3, iam_actions, headers)
            if source and source[2] and headers.get("x-amz-tagging-directive", "").upper() != "REPLACE":
                needed.add("s3:PutObjectTagging")
                checks.append(("s3:GetObjectVersionTagging" if source[1] else "s3:GetObjectTagging", source[0]))
            return checks + [(action, arn) for action in sorted(needed)]
        return s3_additional_checks

    def make_enforce(original):
        def enforce(access_key_id, iam_action, service, region, resource_arn="*", service_context=None):
            if service == "s3":
                context = service_context or {}
                service_context = {**context, **s3_keys(s3, iam_actions, iam_action, resource_arn, context)}
            return original(access_key_id, iam_action, service, region, resource_arn, service_context)
        return enforce

    wrap(app, "_read_request_body", make_read_body)
    wrap(iam_actions, "s3_service_context", make_service_context)
    wrap(iam_actions, "s3_additional_checks", make_additional_checks)
    wrap(iam_evaluator, "enforce", make_enforce)


def s3_object_names():
    """An object is authorized under exactly the key under which it is stored.

    AWS: a key is a string. Double slashes and slashes at either end are part of it, so the ARN of //a is not that of
    /a. MiniStack drops them from the ARN, and a policy for one prefix would allow another.
    """
    from ministack.core import iam_actions

    def exact(path):
        bucket, _, key = path.lstrip("/").partition("/")
        return f"arn:aws:s3:::{bucket}/{key}" if bucket and key else None

    def make_resource_arn(original):
        def extract_resource_arn(service, method, path, *rest):
            return (exact(path) if service == "s3" else None) or original(service, method, path, *rest)
        return extract_resource_arn

    def make_additional_checks(original):
        def s3_additional_checks(method, path, headers, body, query_params):
            collapsed = f"arn:aws:s3:::{'/'.join(part for part in path.split('/') if part)}"
            return [(action, exact(path) if arn == collapsed and exact(path) else arn)
                    for action, arn in original(method, path, headers, body, query_params)]
        return s3_additional_checks

    wrap(iam_actions, "extract_resource_arn", make_resource_arn)
    wrap(iam_actions, "s3_additional_checks", make_additional_checks)


def overrides_of_versions():
    """A read of a version answers with the headers that the query asks for, as any other read does.

    AWS, GetObject: response-content-type, response-content-encoding and four others replace the headers of the answer. MiniStack
    replaces them only where the request names no version.
    """
    from ministack.services import s3

    def make_get_object(original):
        def get_object(bucket_name, key, headers, query_params=None):
            status, found, body = original(bucket_name, key, headers, query_params)
            if status == 200 and query_value(query_params or {}, "versionId"):
                s3._apply_response_overrides(found, query_params)
            return status, found, body
        return get_object

    wrap(s3, "_get_object", make_get_object)


def tags_below_a_delete_marker():
    """The tags of a version are read though the object has a delete marker over it.

    AWS: GetObjectTagging with a versionId addresses that version. MiniStack asks for a current object first, and answers NoSuchKey.
    """
    from ministack.services import s3

    def make_get_object_tagging(original):
        def get_object_tagging(bucket_name, key, query_params=None):
            objects = (s3._ensure_bucket(bucket_name) or {"objects": {key: None}})["objects"]
            if key in objects or not query_value(query_params or {}, "versionId"):
                return original(bucket_name, key, query_params)
            objects[key] = {}
            try:
                return original(bucket_name, key, query_params)
            finally:
                objects.pop(key)
        return get_object_tagging

    wrap(s3, "_get_object_tagging", make_get_object_tagging)


def one_tag_once():
    """A write that names one tag twice is refused.

    AWS: x-amz-tagging with the same key twice is an InvalidArgument. MiniStack takes the first and ignores the other.
    """
    from ministack.services import s3

    def make_validate(original):
        def validate_object_request(method, path, headers, query_params):
            names = [name for part in headers.get("x-amz-tagging", "").split("&")
                     for name in s3._parse_qs(part, keep_blank_values=True)]
            if len(names) != len(set(names)):
                return s3._error("InvalidArgument", "Cannot provide multiple Tags with the same key", 400)
            return original(method, path, headers, query_params)
        return validate_object_request

    wrap(s3, "validate_object_request", make_validate)
