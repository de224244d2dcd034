//! Changing the tags of objects of the lake.

use super::*;

pub(in super::super) const TAGS: &[Row] = &[
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
