//! Writing objects into the lake.

use super::*;

pub(in super::super) const WRITES: &[Row] = &[
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
