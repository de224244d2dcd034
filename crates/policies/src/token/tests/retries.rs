//! A key endpoint that fails or is slow is asked again, within the time.

use std::time::Instant;

use super::issuer::Answer;
use super::*;

/// Nobody waits for long in a test.
fn impatient() -> Options {
    Options { patience: Duration::from_millis(20), request_timeout: Duration::from_secs(60), ..Options::default() }
}

async fn until(condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn after_a_failure_the_keys_are_asked_for_again() {
    let signer = Signer::rsa("1");
    for failing in [Answer::status("503 Service Unavailable", "", ""), Answer::Bytes(Vec::new())] {
        let issuer = Issuer::answering(failing).await;
        let world = World::of(&issuer, &Options::default());
        let token = signer.token(&claims());
        let recovers = async {
            until(|| issuer.requests() == 1).await;
            issuer.now_has(&[&signer]);
        };
        assert_eq!(tokio::join!(world.outcome(&token), recovers).0, Ok(()));
        assert_eq!(issuer.requests(), 2);
    }
}

#[tokio::test]
async fn a_request_that_hangs_is_overtaken_by_the_next() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(Answer::Stuck(Vec::new())).await;
    let world = World::of(&issuer, &impatient());
    let token = signer.token(&claims());
    let recovers = async {
        until(|| issuer.requests() == 1).await;
        issuer.now_has(&[&signer]);
    };
    assert_eq!(tokio::join!(world.outcome(&token), recovers).0, Ok(()));
    // The first request is abandoned.
    issuer.client_left().await;
}

#[tokio::test]
async fn a_slow_answer_counts_although_others_were_asked_for() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(Answer::AtTheGate(Answer::keys(&[signer.jwk()]).bytes())).await;
    let world = World::of(&issuer, &impatient());
    let token = signer.token(&claims());
    let slowly = async {
        until(|| issuer.requests() == 3).await;
        issuer.open();
    };
    assert_eq!(tokio::join!(world.outcome(&token), slowly).0, Ok(()));
    assert_eq!(issuer.requests(), 3);
}

#[tokio::test]
async fn all_clients_of_a_slow_issuer_get_in() {
    let signer = Signer::rsa("1");
    // As many sandboxes as clients, each with a verifier of its own, and an endpoint that lets one through at a time.
    let issuer = Issuer::answering(Answer::AtTheGate(Answer::keys(&[signer.jwk()]).bytes())).await;
    let worlds: Vec<_> = (0..150).map(|_| World::of(&issuer, &impatient())).collect();
    let token = signer.token(&claims());
    let all = futures_util::future::join_all(worlds.iter().map(|world| world.outcome(&token)));
    let slowly = async {
        until(|| issuer.requests() >= 150).await;
        for _ in 0..3 * 150 {
            issuer.open();
            tokio::task::yield_now().await;
        }
    };
    let (outcomes, ()) = tokio::join!(all, slowly);
    assert!(outcomes.iter().all(|outcome| *outcome == Ok(())), "{outcomes:?}");
}

#[tokio::test]
async fn an_issuer_that_is_down_is_asked_three_times_and_has_its_peace() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(Answer::status("503 Service Unavailable", "", "")).await;
    let world = World::of(&issuer, &impatient());
    let token = signer.token(&claims());
    for _ in 0..10 {
        assert_eq!(world.outcome(&token).await, Err(VerifyError::KeysUnavailable));
    }
    assert_eq!(issuer.requests(), 3);
}
