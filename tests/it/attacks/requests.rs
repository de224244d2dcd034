//! The requests of the tables, each with what IAM is asked about it on AWS.

use domain::arrivals;
use serde_json::{Value, json};

use super::call::{Ask, Call};
use super::world::{Object, Place};

/// PutObject with these tags.
pub(super) fn put(p: &Place, key: &str, tags: &[(&str, &str)]) -> Call {
    let call = tagged(Call::s3("PUT", &p.bucket, key, ""), tags).body("MSH|forged");
    tag_asks(call, p, key, tags, "s3:PutObject")
}

/// CreateMultipartUpload with these tags, for which IAM is asked as for PutObject.
pub(super) fn begin_upload(p: &Place, key: &str, tags: &[(&str, &str)]) -> Call {
    tag_asks(tagged(Call::s3("POST", &p.bucket, key, "uploads="), tags), p, key, tags, "s3:PutObject")
}

/// CopyObject that gives the copy these tags.
pub(super) fn copy(p: &Place, from: &Object, key: &str, tags: &[(&str, &str)]) -> Call {
    let call = tagged(Call::s3("PUT", &p.bucket, key, ""), tags).header("x-amz-tagging-directive", "REPLACE");
    let call = call.header("x-amz-copy-source", format!("{}/{}", p.bucket, from.key));
    tag_asks(call, p, key, tags, "s3:PutObject").asks(existing("s3:GetObject", p, from))
}

fn tagged(call: Call, tags: &[(&str, &str)]) -> Call {
    if tags.is_empty() {
        return call;
    }
    call.header("x-amz-tagging", tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("&"))
}

/// A write with tags needs the right to tag as well, and the bucket's key.
fn tag_asks(call: Call, p: &Place, key: &str, tags: &[(&str, &str)], action: &str) -> Call {
    let object = object_arn(p, key);
    let call = call.asks(with_tags(Ask::new(action, &object), tags));
    let call = if tags.is_empty() { call } else { call.asks(with_tags(Ask::new("s3:PutObjectTagging", &object), tags)) };
    call.asks(key_ask(p, "kms:GenerateDataKey", "s3", &p.bucket_arn()))
}

fn with_tags(ask: Ask, tags: &[(&str, &str)]) -> Ask {
    // A condition key has no case, so tags that differ in case only are one key with several values.
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in tags {
        let key = format!("s3:RequestObjectTag/{}", name.to_lowercase());
        match found.iter_mut().find(|it| it.0 == key) {
            Some((_, values)) => values.push((*value).to_owned()),
            None => found.push((key, vec![(*value).to_owned()])),
        }
    }
    let ask = found.into_iter().fold(ask, |ask, (key, values)| ask.keys(key, values));
    if tags.is_empty() { ask } else { ask.keys("s3:RequestObjectTagKeys", tags.iter().map(|it| it.0.to_owned())) }
}

/// What KMS is asked when a service uses a key for the caller.
pub(super) fn key_ask(p: &Place, action: &str, service: &str, what: &str) -> Ask {
    let ask = Ask::new(action, &p.data_key).key("kms:ViaService", format!("{service}.{}.amazonaws.com", p.region));
    if service == "s3" { ask.key("kms:EncryptionContext:aws:s3:arn", what) } else { ask }
}

fn object_arn(p: &Place, key: &str) -> String {
    format!("{}/{key}", p.bucket_arn())
}

/// A question about an object that is there.
pub(super) fn existing(action: &str, p: &Place, object: &Object) -> Ask {
    with_source(Ask::new(action, object_arn(p, &object.key)), &object.source)
}

/// The same about its old version.
pub(super) fn existing_version(action: &str, p: &Place, object: &Object) -> Ask {
    let ask = with_source(Ask::new(action, object_arn(p, &object.key)), &object.old_source);
    ask.key("s3:VersionId", &object.old_version)
}

fn with_source(ask: Ask, source: &str) -> Ask {
    if source.is_empty() { ask } else { ask.key("s3:ExistingObjectTag/source", source) }
}

/// GetObject.
pub(super) fn get(p: &Place, object: &Object) -> Call {
    read("GET", "", "s3:GetObject", p, object).asks(key_ask(p, "kms:Decrypt", "s3", &p.bucket_arn()))
}

/// GetObject of the old version.
pub(super) fn get_old(p: &Place, object: &Object) -> Call {
    let call = Call::s3("GET", &p.bucket, &object.key, &format!("versionId={}", object.old_version));
    call.asks(existing_version("s3:GetObjectVersion", p, object)).asks(key_ask(p, "kms:Decrypt", "s3", &p.bucket_arn()))
}

/// Another request about one object.
pub(super) fn read(method: &'static str, query: &str, action: &str, p: &Place, object: &Object) -> Call {
    Call::s3(method, &p.bucket, &object.key, query).asks(existing(action, p, object))
}

/// PutObjectTagging, of the current version or of the old one.
pub(super) fn retag(p: &Place, object: &Object, old: bool, tags: &[(&str, &str)]) -> Call {
    let query = if old { format!("tagging=&versionId={}", object.old_version) } else { "tagging=".to_owned() };
    let set: String = tags.iter().map(|(key, value)| format!("<Tag><Key>{key}</Key><Value>{value}</Value></Tag>")).collect();
    let ask =
        if old { existing_version("s3:PutObjectVersionTagging", p, object) } else { existing("s3:PutObjectTagging", p, object) };
    let call = Call::s3("PUT", &p.bucket, &object.key, &query);
    call.body(format!("<Tagging><TagSet>{set}</TagSet></Tagging>")).asks(with_tags(ask, tags))
}

/// A request about the whole bucket.
pub(super) fn bucket(method: &'static str, query: &str, action: &str, p: &Place, body: &str) -> Call {
    Call::s3(method, &p.bucket, "", query).body(body).asks(Ask::new(action, p.bucket_arn()))
}

/// The tags of a stored object.
pub(super) fn labels(source: &str) -> [(&str, &str); 2] {
    [("source", source), ("state", "parsed")]
}

// --- DynamoDB -----------------------------------------------------------------------------------------------------------

fn operation(name: &str, body: &Value) -> Call {
    Call::json("dynamodb", &format!("DynamoDB_20120810.{name}"), body)
}

/// The primary key of an institute's item.
pub(super) fn key(p: &Place, source: &str) -> Value {
    json!({ "source": { "S": source }, "message_id": { "S": p.message_id } })
}

/// An operation on this table, with the partitions that it names.
pub(super) fn table(p: &Place, name: &str, sources: &[&str], mut body: Value) -> Call {
    body["TableName"] = json!(p.table);
    tables(p, name, name, sources, &body)
}

/// An operation that names its table elsewhere, or for which IAM is asked about another action.
pub(super) fn tables(p: &Place, name: &str, action: &str, sources: &[&str], body: &Value) -> Call {
    let ask = leading(Ask::new(format!("dynamodb:{action}"), p.table_arn()), sources);
    operation(name, body).asks(ask).asks(key_ask(p, "kms:Decrypt", "dynamodb", ""))
}

fn leading(ask: Ask, sources: &[&str]) -> Ask {
    if sources.is_empty() { ask } else { ask.keys("dynamodb:LeadingKeys", sources.iter().map(|&it| it.to_owned())) }
}

pub(super) fn get_item(p: &Place, source: &str) -> Call {
    table(p, "GetItem", &[source], json!({ "Key": key(p, source) }))
}

/// A Query of a partition of the index by arrival.
pub(super) fn query_arrivals(p: &Place, partition: &str) -> Call {
    let body = json!({
        "TableName": p.table,
        "IndexName": arrivals::INDEX,
        "KeyConditionExpression": "arrival_shard = :partition",
        "ExpressionAttributeValues": { ":partition": { "S": partition } },
    });
    let ask = leading(Ask::new("dynamodb:Query", format!("{}/index/{}", p.table_arn(), arrivals::INDEX)), &[partition]);
    operation("Query", &body).asks(ask).asks(key_ask(p, "kms:Decrypt", "dynamodb", ""))
}

/// A Query by this expression, with `:own` and `:other`, of the table or of the index by arrival; these are the partitions it names. In the
/// index it names one of an institute's partitions.
pub(super) fn query(p: &Place, expression: &str, sources: &[&str], index: bool, more: Value) -> Call {
    let partition = |source: &str| if index { arrivals::shards(source)[2].clone() } else { source.to_owned() };
    let values = [(":own", partition(&p.own)), (":other", partition(&p.other))].into_iter();
    let text = format!("{expression} {more}");
    let values = values.filter(|it| text.contains(it.0)).map(|(name, value)| (name.to_owned(), json!({ "S": value })));
    let mut body = json!({
        "TableName": p.table,
        "KeyConditionExpression": expression,
        "ExpressionAttributeNames": { "#s": if index { arrivals::SHARD } else { "source" } },
        "ExpressionAttributeValues": values.collect::<serde_json::Map<_, _>>(),
    });
    if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
        body.extend(more);
    }
    let mut resource = p.table_arn();
    if index {
        body["IndexName"] = json!(arrivals::INDEX);
        resource = format!("{resource}/index/{}", arrivals::INDEX);
    }
    let sources: Vec<String> = sources.iter().map(|it| partition(it)).collect();
    let sources: Vec<&str> = sources.iter().map(String::as_str).collect();
    let ask = leading(Ask::new("dynamodb:Query", resource), &sources);
    operation("Query", &body).asks(ask).asks(key_ask(p, "kms:Decrypt", "dynamodb", ""))
}

/// A Query of the index by control id, of one institute.
pub(super) fn query_control_ids(p: &Place, source: &str) -> Call {
    let body = json!({
        "TableName": p.table,
        "IndexName": "by-control-id",
        "KeyConditionExpression": "#s = :source AND begins_with(control_id_at, :id)",
        "ExpressionAttributeNames": { "#s": "source" },
        "ExpressionAttributeValues": { ":source": { "S": source }, ":id": { "S": "Q1\t" } },
    });
    let ask = leading(Ask::new("dynamodb:Query", format!("{}/index/by-control-id", p.table_arn())), &[source]);
    operation("Query", &body).asks(ask).asks(key_ask(p, "kms:Decrypt", "dynamodb", ""))
}

/// The ARN of the index by patient.
pub(super) fn patients_arn(p: &Place) -> String {
    format!("arn:aws:dynamodb:{}:{}:table/{}", p.region, p.account, p.patients)
}

/// Another operation on the index by patient, of one institute.
pub(super) fn patients(p: &Place, name: &str, source: &str, mut body: Value) -> Call {
    body["TableName"] = json!(p.patients);
    let ask = leading(Ask::new(format!("dynamodb:{name}"), patients_arn(p)), &[source]);
    operation(name, &body).asks(ask).asks(key_ask(p, "kms:Decrypt", "dynamodb", ""))
}

/// A Query of the index by patient for a hash, of one institute.
pub(super) fn query_patients(p: &Place, source: &str) -> Call {
    let body = json!({
        "KeyConditionExpression": "#s = :source AND begins_with(patient_at, :hash)",
        "ExpressionAttributeNames": { "#s": "source" },
        "ExpressionAttributeValues": { ":source": { "S": source }, ":hash": { "S": "0123456789abcdef" } },
    });
    patients(p, "Query", source, body)
}

/// TransactGetItems, for which IAM is asked as for GetItem.
pub(super) fn transact_get(p: &Place, sources: &[&str]) -> Call {
    let gets: Vec<Value> =
        sources.iter().map(|source| json!({ "Get": { "TableName": p.table, "Key": key(p, source) } })).collect();
    tables(p, "TransactGetItems", "GetItem", sources, &json!({ "TransactItems": gets }))
}

// --- The API ------------------------------------------------------------------------------------------------------------

/// A request for the summary at this path of the API, as it goes over the wire.
pub(super) fn summary(p: &Place, path: &str) -> Call {
    let resource = format!("{}/$default/GET/{}", p.api_arn, path.trim_start_matches('/'));
    Call::api(format!("{}{path}", p.api_path)).asks(Ask::new("execute-api:Invoke", resource))
}

/// The same of an institute.
pub(super) fn summary_of(p: &Place, institute: &str) -> Call {
    summary(p, &format!("/institutes/{institute}/summary"))
}

// --- Others -------------------------------------------------------------------------------------------------------------

/// A request of the JSON protocol and the one action that IAM is asked for.
pub(super) fn json_call(service: &'static str, target: &str, action: &str, resource: &str, body: Value) -> Call {
    Call::json(service, target, &body).asks(Ask::new(action, resource))
}

/// The same of the query protocol.
pub(super) fn form_call(
    service: &'static str,
    version: &str,
    (action, asked): (&str, &str),
    resource: &str,
    fields: &[(&str, &str)],
) -> Call {
    Call::form(service, version, action, fields).asks(Ask::new(asked, resource))
}

/// Where an action has no resource of its own, IAM is asked about "*".
pub(super) fn anything(service: &str) -> String {
    format!("arn:aws:{service}:::*")
}
