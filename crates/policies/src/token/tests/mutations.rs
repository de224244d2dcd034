//! Nothing but the token itself is the token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tokio::runtime::Runtime;

use super::*;

/// Asks about every input; none of them is `good`, and none makes a request.
fn never_verify<S: Strategy>(strategy: S, text: impl Fn(&str, S::Value) -> Option<String>) {
    let runtime = Runtime::new().unwrap();
    let signer = Signer::rsa("1");
    let issuer = runtime.block_on(Issuer::with(&[&signer]));
    let world = World::of(&issuer, &once());
    let good = signer.token(&claims());
    assert_eq!(runtime.block_on(world.outcome(&good)), Ok(()));
    let mut runner = TestRunner::new(Config { cases: 1000, failure_persistence: None, ..Config::default() });
    let result = runner.run(&strategy, |value| {
        let Some(text) = text(&good, value).filter(|text| *text != good) else { return Ok(()) };
        let outcome = runtime.block_on(world.outcome(&text));
        prop_assert!(matches!(outcome, Err(VerifyError::Refused(_))), "{outcome:?}");
        Ok(())
    });
    result.unwrap();
    assert_eq!(issuer.requests(), 1);
}

#[test]
fn arbitrary_bytes_are_no_token() {
    never_verify(proptest::collection::vec(any::<u8>(), 0..2000), |_, bytes| Some(String::from_utf8_lossy(&bytes).into_owned()));
}

#[test]
fn arbitrary_parts_are_no_token() {
    let part = || proptest::collection::vec(any::<u8>(), 0..200);
    never_verify((part(), part(), part()), |_, (header, payload, signature)| {
        Some([header, payload, signature].map(|part| URL_SAFE_NO_PAD.encode(part)).join("."))
    });
}

#[test]
fn a_token_with_another_character_is_another_token() {
    let edit = (any::<prop::sample::Index>(), 0..4_u8, "[A-Za-z0-9_.=+/ \u{e9}\u{0}-]");
    never_verify(proptest::collection::vec(edit, 1..4), |good, edits| {
        let mut token: Vec<char> = good.chars().collect();
        for (index, what, character) in edits {
            let at = index.index(token.len());
            let next = (at + 1) % token.len();
            let character = character.chars().next()?;
            match what {
                0 => token[at] = character,
                1 => token.insert(at, character),
                2 => drop(token.remove(at)),
                _ => token.swap(at, next),
            }
        }
        Some(token.into_iter().collect())
    });
}

#[test]
fn a_token_with_another_bit_is_another_token() {
    never_verify((0..3_usize, any::<prop::sample::Index>(), 0..8_u8), |good, (part, index, bit)| {
        let mut parts: Vec<Vec<u8>> = good.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        let at = index.index(parts[part].len());
        parts[part][at] ^= 1 << bit;
        Some(parts.into_iter().map(|part| URL_SAFE_NO_PAD.encode(part)).collect::<Vec<_>>().join("."))
    });
}

#[test]
fn a_truncated_token_is_refused() {
    never_verify((any::<prop::sample::Index>(), any::<bool>()), |good, (index, front)| {
        let (head, tail) = good.split_at(index.index(good.len()));
        Some(if front { head.to_owned() } else { tail.to_owned() })
    });
}
