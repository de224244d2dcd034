//! Reading, listing, deleting and copying in the lake, and changing the bucket.

use super::*;

pub(in super::super) const READS: &[Row] =
    &[
        row("get-others", "get another's object", NO, Admin, |p| vec![get(p, &p.theirs)], OWN_GET),
        row(
            "get-others-in-part",
            "its first bytes, its headers",
            NO,
            Admin,
            |p| vec![get(p, &p.theirs).header("range", "bytes=0-3"), read("HEAD", "", "s3:GetObject", p, &p.theirs)],
            Own(Admin, |p| vec![get(p, &p.mine).header("range", "bytes=0-3"), read("HEAD", "", "s3:GetObject", p, &p.mine)]),
        ),
        row(
            "get-others-presigned",
            "get it by a URL presigned with one's own credentials",
            NO,
            Admin,
            |p| vec![get(p, &p.theirs).presigned()],
            Own(Admin, |p| vec![get(p, &p.mine).presigned()]),
        ),
        row("get-others-old", "an old version of it", NO, Admin, |p| vec![get_old(p, &p.theirs)], OWN_OLD),
        row(
            "get-old-of-others",
            "an old version of an own object that was another's then",
            NO,
            Admin,
            |p| vec![get_old(p, &p.moved)],
            OWN_OLD,
        ),
        row(
            "get-mislabelled",
            "an object below the own prefix that has another's tag, or none",
            NO,
            Admin,
            |p| vec![get(p, &p.mislabelled), get(p, &p.untagged)],
            OWN_GET,
        ),
        row(
            "get-what-is-not-there",
            "learn whether another has an object: one that is not there is refused as well",
            NO,
            Admin,
            |p| {
                vec![
                    Call::s3("GET", &p.bucket, &p.key_of(&p.other), "")
                        .asks(Ask::new("s3:GetObject", format!("{}/{}", p.bucket_arn(), p.key_of(&p.other)))),
                ]
            },
            OWN_GET,
        ),
        row(
            "get-by-writer",
            "get an own object by a user who may only write",
            NO,
            Writer,
            |p| vec![get(p, &p.mine)],
            Own(Reader, |p| vec![get(p, &p.mine)]),
        ),
        row(
            "get-by-nobody",
            "get it by a user without claims, or with empty ones",
            NO,
            Nobody,
            |p| vec![get(p, &p.mine), get(p, &p.untagged)],
            OWN_GET,
        ),
        row(
            "get-empty-claim",
            "get an object with an empty tag, or none, by a user with empty claims",
            (Open, Refused),
            Blank,
            |p| {
                // The bucket's policy lets nobody make one.
                let empty = Ask::new("s3:GetObject", format!("{}/{}", p.bucket_arn(), p.key_of("")));
                vec![get(p, &p.untagged), Call::question(empty.key("s3:ExistingObjectTag/source", ""))]
            },
            OWN_GET,
        ),
        row(
            "get-others-tags",
            "another's tags, attributes, ACL",
            NO,
            Admin,
            |p| {
                vec![
                    read("GET", "tagging=", "s3:GetObjectTagging", p, &p.theirs),
                    read("GET", "attributes=", "s3:GetObjectAttributes", p, &p.theirs)
                        .header("x-amz-object-attributes", "ETag,ObjectSize"),
                    read("GET", "acl=", "s3:GetObjectAcl", p, &p.theirs),
                    Call::s3("GET", &p.bucket, &p.theirs.key, &format!("tagging=&versionId={}", p.theirs.old_version))
                        .asks(existing_version("s3:GetObjectVersionTagging", p, &p.theirs)),
                ]
            },
            RootMay,
        ),
        row(
            "select-others",
            "query another's object with S3 Select, fetch its torrent, restore it",
            NO,
            Admin,
            |p| {
                vec![
                    read("POST", "select=&select-type=2", "s3:GetObject", p, &p.theirs),
                    read("GET", "torrent=", "s3:GetObjectTorrent", p, &p.theirs),
                    read("POST", "restore=", "s3:RestoreObject", p, &p.theirs),
                ]
            },
            RootMay,
        ),
        row(
            "delete",
            "delete an own object, another's, a version, many at once",
            NO,
            Admin,
            |p| {
                let gone = |object: &str| format!("<Object><Key>{object}</Key></Object>");
                let many = format!("<Delete>{}{}</Delete>", gone(&p.mine.key), gone(&p.theirs.key));
                vec![
                    read("DELETE", "", "s3:DeleteObject", p, &p.mine),
                    read("DELETE", "", "s3:DeleteObject", p, &p.theirs),
                    Call::s3("DELETE", &p.bucket, &p.mine.key, &format!("versionId={}", p.mine.old_version))
                        .asks(existing_version("s3:DeleteObjectVersion", p, &p.mine)),
                    Call::s3("POST", &p.bucket, "", "delete=").body(many).asks(existing("s3:DeleteObject", p, &p.mine)),
                ]
            },
            RootMay,
        ),
        row(
            "lock-own",
            "lock an own object, hold it, give it an ACL",
            NO,
            Admin,
            |p| {
                vec![
                    read("PUT", "retention=", "s3:PutObjectRetention", p, &p.mine),
                    read("PUT", "legal-hold=", "s3:PutObjectLegalHold", p, &p.mine),
                    read("PUT", "acl=", "s3:PutObjectAcl", p, &p.mine).header("x-amz-acl", "bucket-owner-full-control"),
                ]
            },
            RootMay,
        ),
        row(
            "list",
            "list the own prefix, all versions, the uploads, the account's buckets",
            NO,
            Admin,
            |p| {
                vec![
                    bucket("GET", &format!("list-type=2&prefix=source%3D{}%2F", p.own), "s3:ListBucket", p, ""),
                    bucket("GET", "versions=", "s3:ListBucketVersions", p, ""),
                    bucket("GET", "uploads=", "s3:ListBucketMultipartUploads", p, ""),
                    Call::rest("s3", "GET", "/", &json!(null)).asks(Ask::new("s3:ListAllMyBuckets", anything("s3"))),
                ]
            },
            RootMay,
        ),
        row(
            "enrollment",
            "read who gets which institute, give one's own domain a right",
            NO,
            Admin,
            |p| {
                let arn = format!("arn:aws:dynamodb:{}:{}:table/{}", p.region, p.account, p.enrollment);
                let call = |name: &str, mut body: serde_json::Value| {
                    body["TableName"] = json!(p.enrollment);
                    json_call("dynamodb", &format!("DynamoDB_20120810.{name}"), &format!("dynamodb:{name}"), &arn, body)
                };
                let rule = json!({ "kind": { "S": "domain" }, "name": { "S": "test.example" } });
                vec![call("GetItem", json!({ "Key": rule })), call("PutItem", json!({ "Item": rule })), call("Scan", json!({}))]
            },
            RootMay,
        ),
        row(
            "bucket-settings",
            "read or change the bucket: policy, versioning, lifecycle, replication, notifications",
            NO,
            Admin,
            |p| {
                vec![
                    bucket("GET", "policy=", "s3:GetBucketPolicy", p, ""),
                    bucket("PUT", "policy=", "s3:PutBucketPolicy", p, "{}"),
                    bucket("DELETE", "policy=", "s3:DeleteBucketPolicy", p, ""),
                    bucket("PUT", "versioning=", "s3:PutBucketVersioning", p, "<VersioningConfiguration/>"),
                    bucket("PUT", "lifecycle=", "s3:PutLifecycleConfiguration", p, "<LifecycleConfiguration/>"),
                    bucket("PUT", "replication=", "s3:PutReplicationConfiguration", p, "<ReplicationConfiguration/>"),
                    bucket("PUT", "notification=", "s3:PutBucketNotification", p, "<NotificationConfiguration/>"),
                    bucket("PUT", "publicAccessBlock=", "s3:PutBucketPublicAccessBlock", p, "<PublicAccessBlockConfiguration/>"),
                ]
            },
            RootMay,
        ),
    ];
