//! The attack tables, as docs/SECURITY.md shows them.

use serde_json::json;

use super::call::{Ask, Call};
use super::requests::*;
use super::world::Who::{self, *};
use super::world::{Place, name_of};

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    Refused,
    /// Refused as a bad request, with this code.
    BadRequest(&'static str),
    /// AWS does not say, so no judge is asked.
    Open,
}

use Verdict::{Allowed, BadRequest, Open, Refused};

/// Who shows that a refused attempt was refused for the right reason.
#[derive(Clone, Copy)]
pub(super) enum Twin {
    /// The same on what is one's own, which is allowed.
    Own(Who, fn(&Place) -> Vec<Call>),
    /// The very same by the account's root in the sample's place, who is refused nothing.
    Root,
}

use Twin::{Own, Root as RootMay};

/// One attempt.
pub(super) struct Row {
    /// As in the document.
    pub(super) id: &'static str,
    pub(super) tried: &'static str,
    /// Under the sample's role.
    pub(super) sample: Verdict,
    /// Under ours.
    pub(super) here: Verdict,
    pub(super) who: Who,
    /// All of them are refused, or all are allowed.
    pub(super) calls: fn(&Place) -> Vec<Call>,
    pub(super) twin: Twin,
}

const fn row(
    id: &'static str,
    tried: &'static str,
    (sample, here): (Verdict, Verdict),
    who: Who,
    calls: fn(&Place) -> Vec<Call>,
    twin: Twin,
) -> Row {
    Row { id, tried, sample, here, who, calls, twin }
}

/// What every refused write is compared with: the same caller's write as it should be.
const OWN_PUT: Twin = Own(Admin, |p| vec![put(p, &p.key_of(&p.own), &labels(&p.own))]);
const OWN_TAGS: Twin = Own(Admin, |p| vec![retag(p, &p.mine, false, &labels(&p.own))]);
const OWN_GET: Twin = Own(Admin, |p| vec![get(p, &p.mine)]);
const OWN_ITEM: Twin = Own(Admin, |p| vec![get_item(p, &p.own)]);

/// STS knows the caller. Whether there is a role is not told to anybody who may not assume it, not even to root.
const OWN_SESSION: Twin = Own(Admin, |_| vec![Call::form("sts", "2011-06-15", "GetCallerIdentity", &[])]);

const NO: (Verdict, Verdict) = (Refused, Refused);
const CLOSED: (Verdict, Verdict) = (Allowed, Refused);

pub(super) const WRITES: &[Row] = &[
    row("put-without-tag", "put without a tag", NO, Admin, |p| vec![put(p, &p.key_of(&p.own), &[])], OWN_PUT),
    row(
        "put-without-source",
        "put with a tag, but not `source`",
        NO,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &[("state", "parsed")])],
        OWN_PUT,
    ),
    row(
        "put-empty-source",
        "put with an empty tag `source`",
        NO,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &labels(""))],
        OWN_PUT,
    ),
    row(
        "put-others-tag",
        "put with another institute's tag below the own prefix",
        NO,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &labels(&p.other))],
        OWN_PUT,
    ),
    row(
        "put-others-prefix",
        "put below another's prefix with one's own tag",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.key_of(&p.other), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-as-other",
        "put below another's prefix with that institute's tag",
        NO,
        Admin,
        |p| vec![put(p, &p.key_of(&p.other), &labels(&p.other))],
        OWN_PUT,
    ),
    row(
        "overwrite-others",
        "overwrite another's object",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.theirs.key, &labels(&p.own))],
        Own(Admin, |p| vec![put(p, &p.mine.key, &labels(&p.own))]),
    ),
    row(
        "put-no-prefix",
        "put below no prefix",
        CLOSED,
        Admin,
        |p| vec![put(p, &format!("{}.hl7", p.id), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-longer-name",
        "put below a prefix that only begins with one's own",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.key_of(&format!("{}-2", p.own)), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-upper-case",
        "put below one's own prefix in upper case",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own.to_uppercase()), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-dot-dot",
        "put below `source=own/../source=other/`",
        CLOSED,
        Admin,
        |p| vec![put(p, &format!("source={}/../{}", p.own, p.key_of(&p.other)), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-encoded-slash",
        "put below `source=own%2f..%2fsource=other/`, percent signs and all",
        CLOSED,
        Admin,
        |p| vec![put(p, &format!("source={}%2f..%2f{}", p.own, p.key_of(&p.other)), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-leading-slash",
        "put below `/source=own/`",
        CLOSED,
        Admin,
        |p| vec![put(p, &format!("/{}", p.key_of(&p.own)), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-double-slash",
        "put below `source=own//source=other/`, which is below the own prefix",
        (Allowed, Allowed),
        Admin,
        |p| vec![put(p, &format!("source={}//{}", p.own, p.key_of(&p.other)), &labels(&p.own))],
        RootMay,
    ),
    row(
        "put-by-reader",
        "put by a user who may only read",
        NO,
        Reader,
        |p| vec![put(p, &p.key_of(&p.own), &labels(&p.own))],
        Own(Writer, |p| vec![put(p, &p.key_of(&p.own), &labels(&p.own))]),
    ),
    row(
        "put-by-nobody",
        "put below `source=/` with an empty tag by a user without claims",
        NO,
        Nobody,
        |p| vec![put(p, &p.key_of(""), &labels(""))],
        OWN_PUT,
    ),
    row(
        "put-empty-claim",
        "the same by a user with empty claims",
        (Open, Refused),
        Blank,
        |p| vec![put(p, &p.key_of(""), &labels(""))],
        OWN_PUT,
    ),
    row(
        "put-empty-claim-own",
        "put below an institute's prefix with an empty tag by a user with empty claims",
        (Open, Refused),
        Blank,
        |p| vec![put(p, &p.key_of(&p.own), &labels("")), put(p, &p.key_of(&p.own), &labels(&p.own))],
        OWN_PUT,
    ),
    row(
        "put-public",
        "put with the ACL `public-read`",
        NO,
        Admin,
        |p| {
            let acl = Ask::new("s3:PutObjectAcl", format!("{}/{}", p.bucket_arn(), p.key_of(&p.own)));
            vec![put(p, &p.key_of(&p.own), &labels(&p.own)).header("x-amz-acl", "public-read").asks(acl)]
        },
        OWN_PUT,
    ),
    row(
        "put-locked",
        "put with a lock that nobody can lift",
        NO,
        Admin,
        |p| {
            let lock = Ask::new("s3:PutObjectRetention", format!("{}/{}", p.bucket_arn(), p.key_of(&p.own)));
            let call = put(p, &p.key_of(&p.own), &labels(&p.own)).header("x-amz-object-lock-mode", "COMPLIANCE");
            vec![call.header("x-amz-object-lock-retain-until-date", "2036-01-02T03:04:05Z").asks(lock)]
        },
        OWN_PUT,
    ),
    row(
        "put-own-key",
        "put encrypted with a key that only the writer has (SSE-C)",
        CLOSED,
        Admin,
        |p| {
            let call =
                put(p, &p.key_of(&p.own), &labels(&p.own)).header("x-amz-server-side-encryption-customer-algorithm", "AES256");
            let call = call.key("s3:x-amz-server-side-encryption-customer-algorithm", "AES256");
            let call = call.header("x-amz-server-side-encryption-customer-key", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=");
            vec![call.header("x-amz-server-side-encryption-customer-key-md5", "hRasmdxgYDKV3nvbahU1MA==")]
        },
        OWN_PUT,
    ),
    row(
        "put-other-kms-key",
        "put encrypted with a KMS key of another account",
        CLOSED,
        Admin,
        |p| {
            let other = format!("arn:aws:kms:{}:111122223333:key/11111111-2222-3333-4444-555555555555", p.region);
            let call = put(p, &p.key_of(&p.own), &labels(&p.own)).header("x-amz-server-side-encryption", "aws:kms");
            let call = call
                .header("x-amz-server-side-encryption-aws-kms-key-id", &other)
                .key("s3:x-amz-server-side-encryption", "aws:kms");
            vec![call.key("s3:x-amz-server-side-encryption-aws-kms-key-id", &other)]
        },
        OWN_PUT,
    ),
    row(
        "put-without-kms",
        "put encrypted without KMS (SSE-S3)",
        CLOSED,
        Admin,
        |p| {
            let call = put(p, &p.key_of(&p.own), &labels(&p.own)).header("x-amz-server-side-encryption", "AES256");
            vec![call.key("s3:x-amz-server-side-encryption", "AES256")]
        },
        OWN_PUT,
    ),
    row(
        "put-more-tags",
        "put with a further tag, such as somebody's rules may go by",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &[("source", &p.own), ("classification", "public")])],
        OWN_PUT,
    ),
    row(
        "put-tag-in-other-case",
        "put with the tag `Source` for `source`",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &[("Source", &p.own)])],
        OWN_PUT,
    ),
    row(
        "put-tag-in-two-cases",
        "put with one's own `source` and another's `Source`",
        (Open, Refused),
        Admin,
        |p| vec![put(p, &p.key_of(&p.own), &[("source", &p.own), ("Source", &p.other)])],
        OWN_PUT,
    ),
    row(
        "put-tag-twice",
        "put with one's own `source` and then another's",
        (BadRequest("InvalidArgument"), BadRequest("InvalidArgument")),
        Admin,
        |p| {
            vec![
                Call::s3("PUT", &p.bucket, &p.key_of(&p.own), "")
                    .header("x-amz-tagging", format!("source={}&source={}", p.own, p.other)),
            ]
        },
        OWN_PUT,
    ),
    row(
        "put-tag-encoded",
        "put with another's tag, percent-encoded in name and value",
        NO,
        Admin,
        |p| {
            let encoded: String = p.other.bytes().map(|byte| format!("%{byte:02x}")).collect();
            vec![put(p, &p.key_of(&p.own), &labels(&p.other)).replace_header("x-amz-tagging", format!("sou%72ce={encoded}"))]
        },
        Own(Admin, |p| {
            let encoded: String = p.own.bytes().map(|byte| format!("%{byte:02x}")).collect();
            vec![put(p, &p.key_of(&p.own), &labels(&p.own)).replace_header("x-amz-tagging", format!("sou%72ce={encoded}"))]
        }),
    ),
    row(
        "put-presigned",
        "put over another's object by a URL presigned with one's own credentials",
        CLOSED,
        Admin,
        |p| vec![put(p, &p.theirs.key, &labels(&p.own)).presigned()],
        Own(Admin, |p| vec![put(p, &p.mine.key, &labels(&p.own)).presigned()]),
    ),
    row(
        "upload-without-tag",
        "begin a multipart upload without the tag",
        NO,
        Admin,
        |p| vec![begin_upload(p, &p.key_of(&p.own), &[])],
        Own(Admin, |p| vec![begin_upload(p, &p.key_of(&p.own), &labels(&p.own))]),
    ),
    row(
        "upload-others-prefix",
        "begin one over another's object with one's own tag",
        CLOSED,
        Admin,
        |p| vec![begin_upload(p, &p.theirs.key, &labels(&p.own))],
        Own(Admin, |p| vec![begin_upload(p, &p.mine.key, &labels(&p.own))]),
    ),
    row(
        "upload-part",
        "upload a part, which carries no tag, or complete an upload",
        NO,
        Admin,
        |p| {
            let object = || Ask::new("s3:PutObject", format!("{}/{}", p.bucket_arn(), p.mine.key));
            vec![
                Call::s3("PUT", &p.bucket, &p.mine.key, "partNumber=1&uploadId=x").body("MSH|").asks(object()),
                Call::s3("POST", &p.bucket, &p.mine.key, "uploadId=x").asks(object()),
            ]
        },
        RootMay,
    ),
    row(
        "copy-from-others",
        "copy another's object to a place of one's own",
        NO,
        Admin,
        |p| vec![copy(p, &p.theirs, &p.key_of(&p.own), &labels(&p.own))],
        Own(Admin, |p| vec![copy(p, &p.mine, &p.key_of(&p.own), &labels(&p.own))]),
    ),
    row(
        "copy-over-others",
        "copy one's own object over another's",
        CLOSED,
        Admin,
        |p| vec![copy(p, &p.mine, &p.theirs.key, &labels(&p.own))],
        Own(Admin, |p| vec![copy(p, &p.mine, &p.mine.key, &labels(&p.own))]),
    ),
    row(
        "nonsense",
        "put nonsense over an own object, at any size and as often as one likes",
        (Allowed, Allowed),
        Admin,
        |p| vec![put(p, &p.mine.key, &labels(&p.own)), put(p, &p.mine.key, &labels(&p.own))],
        RootMay,
    ),
];

pub(super) const TAGS: &[Row] = &[
    row(
        "retag-and-read",
        "re-tag another's object as one's own, then read it",
        CLOSED,
        Admin,
        |p| vec![retag(p, &p.theirs, false, &labels(&p.own)), get(p, &p.theirs)],
        Own(Admin, |p| vec![retag(p, &p.mine, false, &labels(&p.own)), get(p, &p.mine)]),
    ),
    row(
        "retag-old-version",
        "re-tag an old version of another's object",
        NO,
        Admin,
        |p| vec![retag(p, &p.theirs, true, &labels(&p.own))],
        RootMay,
    ),
    row(
        "retag-own-as-other",
        "re-tag one's own object as another's",
        NO,
        Admin,
        |p| vec![retag(p, &p.mine, false, &labels(&p.other))],
        OWN_TAGS,
    ),
    row(
        "retag-without-source",
        "re-tag one's own object without `source`",
        NO,
        Admin,
        |p| vec![retag(p, &p.mine, false, &[("state", "parsed")]), retag(p, &p.mine, false, &[])],
        OWN_TAGS,
    ),
    row(
        "retag-more-tags",
        "add another tag to one's own object",
        CLOSED,
        Admin,
        |p| vec![retag(p, &p.mine, false, &[("source", &p.own), ("classification", "public")])],
        OWN_TAGS,
    ),
    row(
        "retag-by-reader",
        "re-tag an own object by a user who may only read",
        NO,
        Reader,
        |p| vec![retag(p, &p.mine, false, &labels(&p.own))],
        Own(Writer, |p| vec![retag(p, &p.mine, false, &labels(&p.own))]),
    ),
    row(
        "retag-mislabelled",
        "re-tag an object below the own prefix that is labelled as another's",
        CLOSED,
        Admin,
        |p| vec![retag(p, &p.mislabelled, false, &labels(&p.own))],
        OWN_TAGS,
    ),
    row(
        "remove-tags",
        "remove the tags of an own object, of another's, of an old version",
        NO,
        Admin,
        |p| {
            vec![
                read("DELETE", "tagging=", "s3:DeleteObjectTagging", p, &p.mine),
                read("DELETE", "tagging=", "s3:DeleteObjectTagging", p, &p.theirs),
                Call::s3("DELETE", &p.bucket, &p.mine.key, &format!("tagging=&versionId={}", p.mine.old_version))
                    .asks(existing_version("s3:DeleteObjectVersionTagging", p, &p.mine)),
            ]
        },
        RootMay,
    ),
    row(
        "retag-state",
        "change the `state` of an own object",
        (Allowed, Allowed),
        Admin,
        |p| vec![retag(p, &p.mine, false, &[("source", &p.own), ("state", "error")])],
        RootMay,
    ),
];

pub(super) const READS: &[Row] =
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

const OWN_OLD: Twin = Own(Admin, |p| vec![get_old(p, &p.mine)]);

pub(super) const CATALOG: &[Row] = &[
    row("item-others", "GetItem of another's entry", NO, Admin, |p| vec![get_item(p, &p.other)], OWN_ITEM),
    row(
        "item-some-attributes",
        "one attribute of it, by a projection",
        NO,
        Admin,
        |p| vec![table(p, "GetItem", &[&p.other], json!({ "Key": key(p, &p.other), "ProjectionExpression": "received_at" }))],
        Own(Admin, |p| {
            vec![table(p, "GetItem", &[&p.own], json!({ "Key": key(p, &p.own), "ProjectionExpression": "received_at" }))]
        }),
    ),
    row(
        "item-by-writer",
        "GetItem of an own entry by a user who may only write",
        NO,
        Writer,
        |p| vec![get_item(p, &p.own)],
        Own(Reader, |p| vec![get_item(p, &p.own)]),
    ),
    row("item-by-nobody", "the same by a user without claims", NO, Nobody, |p| vec![get_item(p, &p.own)], OWN_ITEM),
    row("item-empty-claim", "the same by a user with empty claims", NO, Blank, |p| vec![get_item(p, &p.own)], OWN_ITEM),
    row(
        "query-others",
        "Query another's entries, or count them",
        NO,
        Admin,
        |p| {
            vec![
                query(p, "#s = :other", &[&p.other], false, json!({})),
                query(p, "#s = :other", &[&p.other], false, json!({ "Select": "COUNT" })),
            ]
        },
        Own(Admin, |p| {
            vec![
                query(p, "#s = :own", &[&p.own], false, json!({})),
                query(p, "#s = :own", &[&p.own], false, json!({ "Select": "COUNT" })),
            ]
        }),
    ),
    row(
        "query-index-others",
        "Query them in the index",
        NO,
        Admin,
        |p| vec![query(p, "#s = :other", &[&p.other], true, json!({}))],
        Own(Admin, |p| vec![query(p, "#s = :own", &[&p.own], true, json!({}))]),
    ),
    row(
        "query-filter",
        "Query another's with a filter on one's own",
        NO,
        Admin,
        |p| vec![query(p, "#s = :other", &[&p.other], true, json!({ "FilterExpression": "#s = :own" }))],
        Own(Admin, |p| {
            vec![query(p, "#s = :own", &[&p.own], true, json!({ "FilterExpression": "attribute_exists(message_id)" }))]
        }),
    ),
    row(
        "query-begins-with",
        "Query all partitions that begin with a text, or one's own or another's",
        NO,
        Admin,
        |p| {
            vec![
                query(p, "begins_with(#s, :own)", &[], false, json!({})),
                query(p, "#s = :own OR #s = :other", &[&p.own, &p.other], false, json!({})),
            ]
        },
        Own(Admin, |p| vec![query(p, "#s = :own", &[&p.own], false, json!({}))]),
    ),
    row(
        "query-by-writer",
        "Query one's own by a user who may only write, in table and index",
        NO,
        Writer,
        |p| vec![query(p, "#s = :own", &[&p.own], false, json!({})), query(p, "#s = :own", &[&p.own], true, json!({}))],
        Own(Reader, |p| {
            vec![query(p, "#s = :own", &[&p.own], false, json!({})), query(p, "#s = :own", &[&p.own], true, json!({}))]
        }),
    ),
    row(
        "scan",
        "Scan table or index, all or with a filter on one's own",
        NO,
        Admin,
        |p| {
            let filter = json!({ "FilterExpression": "#s = :own", "ExpressionAttributeNames": { "#s": "source" },
            "ExpressionAttributeValues": { ":own": { "S": p.own } } });
            vec![
                table(p, "Scan", &[], json!({})),
                table(p, "Scan", &[], filter),
                table(p, "Scan", &[], json!({ "IndexName": "by-received-at" })),
            ]
        },
        RootMay,
    ),
    row(
        "batch-get",
        "BatchGetItem of another's entry, of one's own, of both",
        NO,
        Admin,
        |p| {
            let get = |sources: &[&str]| {
                let keys: Vec<_> = sources.iter().map(|source| key(p, source)).collect();
                tables(p, "BatchGetItem", "BatchGetItem", sources, &json!({ "RequestItems": { &p.table: { "Keys": keys } } }))
            };
            vec![get(&[&p.other]), get(&[&p.own]), get(&[&p.own, &p.other])]
        },
        RootMay,
    ),
    row(
        "transact-get",
        "TransactGetItems of another's entry, of one's own and another's",
        NO,
        Admin,
        |p| vec![transact_get(p, &[&p.other]), transact_get(p, &[&p.own, &p.other])],
        Own(Admin, |p| vec![transact_get(p, &[&p.own])]),
    ),
    row(
        "partiql",
        "read, write, delete with PartiQL, one's own and another's",
        NO,
        Admin,
        |p| {
            let run = |statement: &str, action: &str, source: &str| {
                let body = json!({ "Statement": statement, "Parameters": [{ "S": source }, { "S": p.message_id }] });
                tables(p, "ExecuteStatement", action, &[source], &body)
            };
            let select = format!("SELECT * FROM \"{}\" WHERE source = ? AND message_id = ?", p.table);
            let insert = format!("INSERT INTO \"{}\" VALUE {{'source': ?, 'message_id': ?}}", p.table);
            let delete = format!("DELETE FROM \"{}\" WHERE source = ? AND message_id = ?", p.table);
            let batch =
                json!({ "Statements": [{ "Statement": select, "Parameters": [{ "S": p.other }, { "S": p.message_id }] }] });
            vec![
                run(&select, "PartiQLSelect", &p.own),
                run(&select, "PartiQLSelect", &p.other),
                run(&insert, "PartiQLInsert", &p.own),
                run(&delete, "PartiQLDelete", &p.other),
                tables(p, "BatchExecuteStatement", "PartiQLSelect", &[&p.other], &batch),
            ]
        },
        RootMay,
    ),
    row(
        "forge-entry",
        "put, update, delete an entry, even one's own",
        NO,
        Admin,
        |p| {
            let entry = |source: &str| {
                let mut entry = key(p, source);
                entry["status"] = json!({ "S": "stored" });
                entry
            };
            let update = json!({ "Key": key(p, &p.own), "UpdateExpression": "SET x = :x", "ExpressionAttributeValues": { ":x": { "S": "x" } } });
            vec![
                table(p, "PutItem", &[&p.own], json!({ "Item": entry(&p.own) })),
                table(p, "UpdateItem", &[&p.own], update),
                table(p, "DeleteItem", &[&p.own], json!({ "Key": key(p, &p.own) })),
                table(p, "PutItem", &[&p.other], json!({ "Item": entry(&p.other) })),
                table(p, "DeleteItem", &[&p.other], json!({ "Key": key(p, &p.other) })),
                tables(
                    p,
                    "BatchWriteItem",
                    "BatchWriteItem",
                    &[&p.own],
                    &json!({ "RequestItems": { &p.table: [{ "PutRequest": { "Item": entry(&p.own) } }] } }),
                ),
                tables(
                    p,
                    "TransactWriteItems",
                    "PutItem",
                    &[&p.own],
                    &json!({ "TransactItems": [{ "Put": { "TableName": p.table, "Item": entry(&p.own) } }] }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "condition-check",
        "learn of another's entry by a condition in a transaction",
        NO,
        Admin,
        |p| {
            let check =
                json!({ "TableName": p.table, "Key": key(p, &p.other), "ConditionExpression": "attribute_exists(message_id)" });
            vec![tables(
                p,
                "TransactWriteItems",
                "ConditionCheckItem",
                &[&p.other],
                &json!({ "TransactItems": [{ "ConditionCheck": check }] }),
            )]
        },
        RootMay,
    ),
    row(
        "table-settings",
        "describe, export, back up, change, delete the table; list tables",
        NO,
        Admin,
        |p| {
            let export = json!({ "TableArn": p.table_arn(), "S3Bucket": "somebodys" });
            vec![
                table(p, "DescribeTable", &[], json!({})),
                tables(p, "ExportTableToPointInTime", "ExportTableToPointInTime", &[], &export),
                table(p, "CreateBackup", &[], json!({ "BackupName": "backup" })),
                table(p, "UpdateTable", &[], json!({ "BillingMode": "PAY_PER_REQUEST" })),
                table(
                    p,
                    "UpdateTimeToLive",
                    &[],
                    json!({ "TimeToLiveSpecification": { "AttributeName": "received_at", "Enabled": true } }),
                ),
                tables(p, "ListTables", "ListTables", &[], &json!({})),
            ]
        },
        RootMay,
    ),
];

pub(super) const SERVICES: &[Row] = &[
    row(
        "invoke-workers",
        "invoke each worker with an API event that claims another institute",
        NO,
        Admin,
        |p| {
            let claims = json!({ "custom:read": p.other, "custom:write": p.other });
            let event = json!({ "version": "2.0", "routeKey": "POST /er7", "body": "MSH|", "requestContext": { "authorizer": { "jwt": { "claims": claims } } } });
            let invoke = |name: &String| {
                let arn = format!("arn:aws:lambda:{}:{}:function:{name}", p.region, p.account);
                Call::rest("lambda", "POST", &format!("/2015-03-31/functions/{name}/invocations"), &event)
                    .asks(Ask::new("lambda:InvokeFunction", arn))
            };
            p.functions.iter().map(invoke).collect()
        },
        RootMay,
    ),
    row(
        "change-workers",
        "read or replace a worker's code",
        NO,
        Admin,
        |p| {
            let name = &p.functions[0];
            let arn = format!("arn:aws:lambda:{}:{}:function:{name}", p.region, p.account);
            let path = format!("/2015-03-31/functions/{name}");
            vec![
                Call::rest("lambda", "GET", &path, &json!(null)).asks(Ask::new("lambda:GetFunction", &arn)),
                Call::rest("lambda", "PUT", &format!("{path}/code"), &json!({ "ZipFile": "UEs=" }))
                    .asks(Ask::new("lambda:UpdateFunctionCode", &arn)),
            ]
        },
        RootMay,
    ),
    row(
        "queue",
        "send an envelope to the queue, receive, purge",
        NO,
        Admin,
        |p| {
            let call = |name: &str, body| json_call("sqs", &format!("AmazonSQS.{name}"), &format!("sqs:{name}"), &p.queue, body);
            vec![
                call("SendMessage", json!({ "QueueUrl": p.queue_url, "MessageBody": "{}" })),
                call("ReceiveMessage", json!({ "QueueUrl": p.queue_url })),
                call("GetQueueAttributes", json!({ "QueueUrl": p.queue_url, "AttributeNames": ["All"] })),
                call("PurgeQueue", json!({ "QueueUrl": p.queue_url })),
            ]
        },
        RootMay,
    ),
    row(
        "topic",
        "publish an event, subscribe to all of them",
        NO,
        Admin,
        |p| {
            let publish = [("TopicArn", p.topic.as_str()), ("Message", "{}")];
            let subscribe = [("TopicArn", p.topic.as_str()), ("Protocol", "sqs"), ("Endpoint", p.queue.as_str())];
            vec![
                form_call("sns", "2010-03-31", ("Publish", "sns:Publish"), &p.topic, &publish),
                form_call("sns", "2010-03-31", ("Subscribe", "sns:Subscribe"), &p.topic, &subscribe),
            ]
        },
        RootMay,
    ),
    row(
        "state-machine",
        "start an execution, read the definition",
        NO,
        Admin,
        |p| {
            let call = |name: &str, body| {
                json_call("states", &format!("AWSStepFunctions.{name}"), &format!("states:{name}"), &p.machine, body)
            };
            vec![
                call("StartSyncExecution", json!({ "stateMachineArn": p.machine, "input": "{}" })),
                call("StartExecution", json!({ "stateMachineArn": p.machine, "input": "{}" })),
                call("DescribeStateMachine", json!({ "stateMachineArn": p.machine })),
            ]
        },
        RootMay,
    ),
    row(
        "keys",
        "use the data key or the token key directly",
        NO,
        Admin,
        |p| {
            let call = |name: &str, key: &str, body| {
                json_call("kms", &format!("TrentService.{name}"), &format!("kms:{name}"), key, body)
            };
            let calls = |key: &str| {
                [
                    call("Encrypt", key, json!({ "KeyId": key, "Plaintext": "eA==" })),
                    call("Decrypt", key, json!({ "KeyId": key, "CiphertextBlob": "eA==" })),
                    call("GenerateDataKey", key, json!({ "KeyId": key, "KeySpec": "AES_256" })),
                    call("DescribeKey", key, json!({ "KeyId": key })),
                ]
            };
            [calls(&p.data_key), calls(&p.token_key)].concat()
        },
        RootMay,
    ),
    row(
        "key-of-other-bucket",
        "have S3 use the data key for another bucket, by a reader for writing, by a writer for reading",
        NO,
        Reader,
        |p| {
            vec![
                Call::question(key_ask(p, "kms:Decrypt", "s3", "arn:aws:s3:::another")),
                Call::question(key_ask(p, "kms:GenerateDataKey", "s3", &p.bucket_arn())),
                Call::question(key_ask(p, "kms:Decrypt", "sqs", "")),
            ]
        },
        OWN_GET,
    ),
    row(
        "other-buckets",
        "get and put in the buckets of messages on their way and of code",
        NO,
        Admin,
        |p| {
            let there = |bucket: &String| {
                let there =
                    Place { bucket: bucket.clone(), data_key: p.data_key.clone(), region: p.region.clone(), ..Place::default() };
                [put(&there, &p.key_of(&p.own), &labels(&p.own)), get(&there, &p.mine)]
            };
            p.other_buckets.iter().flat_map(there).collect()
        },
        OWN_PUT,
    ),
    row(
        "assume-worker",
        "assume a worker's role",
        NO,
        Admin,
        |p| {
            let assume = |role: &String| {
                form_call(
                    "sts",
                    "2011-06-15",
                    ("AssumeRole", "sts:AssumeRole"),
                    role,
                    &[("RoleArn", role), ("RoleSessionName", "session")],
                )
            };
            p.worker_roles.iter().map(assume).collect()
        },
        OWN_SESSION,
    ),
    row(
        "assume-user-role",
        "assume the users' role once more, with tags of one's own choice",
        NO,
        Admin,
        |p| {
            let fields = [
                ("RoleArn", p.user_role.as_str()),
                ("RoleSessionName", "session"),
                ("Tags.member.1.Key", "read"),
                ("Tags.member.1.Value", p.other.as_str()),
            ];
            vec![form_call("sts", "2011-06-15", ("AssumeRole", "sts:AssumeRole"), &p.user_role, &fields)]
        },
        OWN_SESSION,
    ),
    row(
        "iam",
        "change the users' role, make a user",
        NO,
        Admin,
        |p| {
            let name = name_of(&p.user_role);
            let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
            let put = [("RoleName", name), ("PolicyName", "all"), ("PolicyDocument", all)];
            let attach = [("RoleName", name), ("PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")];
            vec![
                form_call("iam", "2010-05-08", ("PutRolePolicy", "iam:PutRolePolicy"), &p.user_role, &put),
                form_call("iam", "2010-05-08", ("AttachRolePolicy", "iam:AttachRolePolicy"), &p.user_role, &attach),
                form_call(
                    "iam",
                    "2010-05-08",
                    ("CreateAccessKey", "iam:CreateAccessKey"),
                    &anything("iam"),
                    &[("UserName", "nobody-none")],
                ),
            ]
        },
        RootMay,
    ),
    row(
        "identity-pool-tags",
        "map the tag `read` to an attribute that users write themselves",
        CLOSED,
        Admin,
        |p| {
            let body = json!({ "IdentityPoolId": p.identity_pool, "IdentityProviderName": p.provider, "PrincipalTags": { "read": "name" } });
            vec![identity(p, "SetPrincipalTagAttributeMap", body)]
        },
        RootMay,
    ),
    row(
        "identity-pool-settings",
        "let strangers in, list who is there, give users another role",
        CLOSED,
        Admin,
        |p| {
            vec![
                identity(
                    p,
                    "UpdateIdentityPool",
                    json!({ "IdentityPoolId": p.identity_pool, "IdentityPoolName": "pool", "AllowUnauthenticatedIdentities": true }),
                ),
                identity(p, "ListIdentities", json!({ "IdentityPoolId": p.identity_pool, "MaxResults": 10 })),
                identity(
                    p,
                    "SetIdentityPoolRoles",
                    json!({ "IdentityPoolId": p.identity_pool, "Roles": { "authenticated": p.user_role } }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "administer-users",
        "set one's claims as an administrator would, look at other users",
        NO,
        Admin,
        |p| {
            let arn = format!("arn:aws:cognito-idp:{}:{}:userpool/{}", p.region, p.account, p.user_pool);
            let call = |name: &str, body| {
                json_call(
                    "cognito-idp",
                    &format!("AWSCognitoIdentityProviderService.{name}"),
                    &format!("cognito-idp:{name}"),
                    &arn,
                    body,
                )
            };
            let claim = json!([{ "Name": "custom:write", "Value": p.other }]);
            vec![
                call(
                    "AdminUpdateUserAttributes",
                    json!({ "UserPoolId": p.user_pool, "Username": p.another_user, "UserAttributes": claim }),
                ),
                call("ListUsers", json!({ "UserPoolId": p.user_pool })),
                call(
                    "AdminSetUserPassword",
                    json!({ "UserPoolId": p.user_pool, "Username": p.another_user, "Password": "Aa1!aaaaaaaaaaaa", "Permanent": true }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "logs",
        "read the workers' logs",
        NO,
        Admin,
        |p| {
            let group = format!("/aws/lambda/{}", p.functions[0]);
            let arn = format!("arn:aws:logs:{}:{}:log-group:{group}:*", p.region, p.account);
            vec![json_call(
                "logs",
                "Logs_20140328.FilterLogEvents",
                "logs:FilterLogEvents",
                &arn,
                json!({ "logGroupName": group }),
            )]
        },
        RootMay,
    ),
    row(
        "anything-else",
        "parameters, secrets, machines, stacks, metrics",
        NO,
        Admin,
        |_| {
            vec![
                json_call("ssm", "AmazonSSM.DescribeParameters", "ssm:DescribeParameters", &anything("ssm"), json!({})),
                json_call(
                    "secretsmanager",
                    "secretsmanager.ListSecrets",
                    "secretsmanager:ListSecrets",
                    &anything("secretsmanager"),
                    json!({}),
                ),
                form_call("ec2", "2016-11-15", ("DescribeInstances", "ec2:DescribeInstances"), &anything("ec2"), &[]),
                form_call(
                    "cloudformation",
                    "2010-05-15",
                    ("ListStacks", "cloudformation:ListStacks"),
                    &anything("cloudformation"),
                    &[],
                ),
                json_call("events", "AWSEvents.ListRules", "events:ListRules", &anything("events"), json!({})),
            ]
        },
        RootMay,
    ),
];

fn identity(p: &Place, name: &str, body: serde_json::Value) -> Call {
    let arn = format!("arn:aws:cognito-identity:{}:{}:identitypool/{}", p.region, p.account, p.identity_pool);
    json_call("cognito-identity", &format!("AWSCognitoIdentityService.{name}"), &format!("cognito-identity:{name}"), &arn, body)
}
