//! The attack tables, as docs/SECURITY.md shows them: a file for each table.

mod catalog;
mod patients;
mod reads;
mod services;
mod summaries;
mod tags;
mod writes;

use serde_json::{Value, json};

use super::call::{Ask, Call};
use super::requests::*;
use super::world::Who::{self, *};
use super::world::{Object, Place, name_of};

pub(super) use catalog::CATALOG;
pub(super) use patients::PATIENTS;
pub(super) use reads::READS;
pub(super) use services::SERVICES;
pub(super) use summaries::SUMMARIES;
pub(super) use tags::TAGS;
pub(super) use writes::WRITES;

/// What the table expects of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    Allowed,
    Refused,
    /// Refused as a bad request, with this code.
    BadRequest(&'static str),
    /// AWS does not say, so no judge is asked.
    Open,
}

use Expected::{Allowed, BadRequest, Open, Refused};

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
    pub(super) sample: Expected,
    /// Under ours.
    pub(super) here: Expected,
    pub(super) who: Who,
    /// All of them are refused, or all are allowed.
    pub(super) calls: fn(&Place) -> Vec<Call>,
    pub(super) twin: Twin,
}

const fn row(
    id: &'static str,
    tried: &'static str,
    (sample, here): (Expected, Expected),
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

const OWN_SUMMARY: Twin = Own(Admin, |p| vec![summary_of(p, &p.own)]);

/// STS knows the caller. Whether there is a role is not told to anybody who may not assume it, not even to root.
const OWN_SESSION: Twin = Own(Admin, |_| vec![Call::form("sts", "2011-06-15", "GetCallerIdentity", &[])]);

const OWN_OLD: Twin = Own(Admin, |p| vec![get_old(p, &p.mine)]);

const NO: (Expected, Expected) = (Refused, Refused);
const CLOSED: (Expected, Expected) = (Allowed, Refused);
