//! Message ids as people type them: enough digits to identify one message.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use domain::{MessageId, Source};

use super::cells::{kind, outcome};
use super::when;
use client::Client;
use client::read::{self, Listed};

/// The digits that a table shows, and the fewest that name a message.
pub(crate) const SHORT: usize = 8;

/// A message id or its beginning, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenId(String);

impl FromStr for GivenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_good = (SHORT..=64).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
        let refusal = || format!("not a message id: it has 64 hexadecimal digits, and the first {SHORT} or more do as well");
        is_good.then(|| Self(text.to_ascii_lowercase())).ok_or_else(refusal)
    }
}

impl fmt::Display for GivenId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl GivenId {
    /// The id, if all its digits were given.
    pub(crate) fn whole(&self) -> Option<MessageId> {
        self.0.parse().ok()
    }

    /// Finds the message whose id begins so, at the caller's own institute or at a named one. Returns a whole id without looking
    /// it up.
    ///
    /// # Errors
    /// When no message's id begins so, or several do; the error then names them.
    pub(crate) async fn resolve(&self, client: &Client, institute: Option<&Source>) -> Result<MessageId> {
        if let Some(id) = self.whole() {
            return Ok(id);
        }
        let found = read::with_prefix(client, institute, &self.0).await?;
        match found.as_slice() {
            [one] => Ok(one.status.message_id.clone()),
            [] => bail!("no message's id begins with {self}"),
            several => bail!("the ids of several messages begin with {self}: {}", candidates(several)),
        }
    }
}

/// The only message whose id begins with the given digits, of those that were `found`. `nothing` says where there is none.
///
/// # Errors
/// `nothing`, or the ids of several.
pub(crate) fn the_only<'a>(
    given: &GivenId,
    found: impl IntoIterator<Item = &'a MessageId, IntoIter: Clone>,
    nothing: impl FnOnce() -> String,
) -> Result<MessageId> {
    let found = found.into_iter();
    let mut ids = found.clone();
    match (ids.next(), ids.next()) {
        (Some(one), None) => Ok(one.clone()),
        (None, _) => bail!(nothing()),
        _ => bail!("the ids of several messages begin with {given}: {}", listed(found)),
    }
}

/// Lists the candidates, with enough about each to choose one.
fn candidates(found: &[Listed]) -> String {
    let digits = digits(found.iter().map(|it| &it.status.message_id));
    let candidate = |it: &Listed| {
        let facts = [when::short(it.status.received_at), kind(&it.summary), outcome(&it.status)];
        let facts: Vec<_> = facts.into_iter().filter(|fact| !fact.is_empty()).collect();
        format!("{} ({})", shortened(&it.status.message_id, digits), facts.join(", "))
    };
    found.iter().map(candidate).collect::<Vec<_>>().join("; ")
}

/// How many digits tell these messages apart.
pub(crate) fn digits<'a>(ids: impl Iterator<Item = &'a MessageId>) -> usize {
    let mut ids: Vec<&str> = ids.map(MessageId::as_str).collect();
    ids.sort_unstable();
    ids.dedup();
    let common = |(one, other): (&&str, &&str)| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    ids.iter().zip(ids.iter().skip(1)).map(common).max().map_or(SHORT, |most| SHORT.max(most + 1))
}

/// A few of these ids, with as many digits as tell them apart.
fn listed<'a>(ids: impl Iterator<Item = &'a MessageId> + Clone) -> String {
    const SHOWN: usize = 20;
    let digits = digits(ids.clone());
    ids.take(SHOWN).map(|id| shortened(id, digits)).collect::<Vec<_>>().join(", ")
}

/// The first digits of an id.
pub(crate) fn shortened(id: &MessageId, digits: usize) -> String {
    id.as_str().chars().take(digits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_given_by_eight_digits_or_more() {
        for good in ["80f0e422", "80F0E4221", &"a".repeat(64)] {
            assert_eq!(good.parse::<GivenId>().unwrap().to_string(), good.to_ascii_lowercase());
        }
        for bad in ["", "80f0e42", "80f0e42g", &"a".repeat(65), "../../etc"] {
            assert!(bad.parse::<GivenId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_table_shows_as_many_digits_as_tell_its_messages_apart() {
        let id = |text: &str| format!("{text}{}", "0".repeat(64 - text.len())).parse::<MessageId>().unwrap();
        let ids = [id("1111111111a"), id("22"), id("1111111111b"), id("22")];
        assert_eq!(digits(ids.iter()), 11);
        assert_eq!((digits(ids.iter().take(2)), digits(ids.iter().take(0))), (SHORT, SHORT));
        assert_eq!(shortened(&ids[0], 11), "1111111111a");
    }
}
