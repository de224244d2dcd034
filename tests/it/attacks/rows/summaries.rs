//! The route that IAM authorizes: how many messages an institute has.

use super::*;

pub(in super::super) const SUMMARIES: &[Row] = &[
    row("summary-others", "ask for another's summary", NO, Admin, |p| vec![summary_of(p, &p.other)], OWN_SUMMARY),
    row(
        "summary-longer-name",
        "that of an institute whose name only begins with one's own, or ends with it",
        NO,
        Admin,
        |p| vec![summary_of(p, &format!("{}2", p.own)), summary_of(p, &format!("2{}", p.own))],
        OWN_SUMMARY,
    ),
    row(
        "summary-upper-case",
        "that of one's own name in upper case",
        NO,
        Admin,
        |p| vec![summary_of(p, &p.own.to_uppercase())],
        OWN_SUMMARY,
    ),
    row(
        "summary-pattern",
        "that of a pattern: `*`, `?`, one's own name and `*`",
        NO,
        Admin,
        |p| vec![summary_of(p, "*"), summary_of(p, "%3F%3F%3F"), summary_of(p, &format!("{}*", p.own))],
        OWN_SUMMARY,
    ),
    row(
        "summary-encoded",
        "another's, its name percent-encoded",
        NO,
        Admin,
        |p| vec![summary_of(p, &p.other.replace('t', "%74"))],
        OWN_SUMMARY,
    ),
    row(
        "summary-encoded-slash",
        "`own%2F..%2Fother`, `own%2f%2e%2e%2fother`, `other%2Fsummary%2F..`",
        NO,
        Admin,
        |p| {
            let (own, other) = (&p.own, &p.other);
            vec![
                summary_of(p, &format!("{own}%2F..%2F{other}")),
                summary_of(p, &format!("{own}%2f%2e%2e%2f{other}")),
                summary(p, &format!("/institutes/{other}%2Fsummary%2F../summary")),
                summary(p, &format!("/institutes%2F{other}%2Fsummary")),
            ]
        },
        OWN_SUMMARY,
    ),
    row(
        "summary-dot-dot",
        "`own/../other`, `own/summary/../../other`",
        NO,
        Admin,
        |p| {
            let (own, other) = (&p.own, &p.other);
            vec![
                summary_of(p, &format!("{own}/../{other}")),
                summary(p, &format!("/institutes/{own}/summary/../../{other}/summary")),
            ]
        },
        OWN_SUMMARY,
    ),
    row(
        "summary-double-slash",
        "`//institutes/other`, `/institutes//other`, `own//other`",
        NO,
        Admin,
        |p| {
            let (own, other) = (&p.own, &p.other);
            vec![
                summary(p, &format!("//institutes/{other}/summary")),
                summary(p, &format!("/institutes//{other}/summary")),
                summary_of(p, &format!("{own}//{other}")),
            ]
        },
        OWN_SUMMARY,
    ),
    row(
        "summary-by-writer",
        "one's own by a user who may only write",
        NO,
        Writer,
        |p| vec![summary_of(p, &p.own)],
        Own(Reader, |p| vec![summary_of(p, &p.own)]),
    ),
    row(
        "summary-by-nobody",
        "an institute's, or nobody's, by a user without claims",
        NO,
        Nobody,
        |p| vec![summary_of(p, &p.own), summary_of(p, "")],
        OWN_SUMMARY,
    ),
    row(
        "summary-empty-claim",
        "the same by a user with empty claims",
        NO,
        Blank,
        |p| vec![summary_of(p, &p.own), summary_of(p, "")],
        OWN_SUMMARY,
    ),
];
