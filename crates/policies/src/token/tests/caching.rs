//! How long keys serve, and how often they are asked for.

use futures_util::future::join_all;
use futures_util::poll;

use super::super::keys::{ASK_EVERY, FRESH, REFRESH_AFTER, RETRY_AFTER};
use super::issuer::Answer;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn down() -> Answer {
    Answer::status("503 Service Unavailable", "", "")
}

#[tokio::test]
async fn only_the_first_token_asks_for_the_keys() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    assert_eq!(issuer.requests(), 0, "nothing is asked for before a token needs it");
    for _ in 0..5 {
        assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it() {
    let (old, new) = (Signer::rsa("old"), Signer::stranger("new"));
    let issuer = Issuer::with(&[&old]).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&old.token(&claims())).await, Ok(()));
    issuer.now_has(&[&new]);
    world.pass(ASK_EVERY - SECOND);
    world.refuses(&new.token(&claims()), Refused::UnknownKey).await;
    assert_eq!(issuer.requests(), 1);
    world.pass(SECOND);
    assert_eq!(world.outcome(&new.token(&claims())).await, Ok(()));
    assert_eq!(issuer.requests(), 2);
    // The issuer has taken the old one away.
    world.refuses(&old.token(&claims()), Refused::UnknownKey).await;
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn unknown_key_names_make_no_traffic() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("1"));
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    let named = |number: u64| stranger.sign(&json!({ "alg": "RS256", "kid": format!("no-{number}") }), &claims());
    for number in 0..20 {
        world.refuses(&named(number), Refused::UnknownKey).await;
    }
    assert_eq!(issuer.requests(), 1);
    let minutes = 2;
    for second in 0..60 * minutes {
        world.pass(SECOND);
        world.refuses(&named(1000 + second), Refused::UnknownKey).await;
        assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
    }
    assert_eq!(issuer.requests() as u64, 1 + 60 * minutes / ASK_EVERY.as_secs());
    // Nor while the issuer is down.
    issuer.now_answers(down());
    let before = issuer.requests();
    world.pass(ASK_EVERY);
    for second in 0..60 {
        // The key may be a new one: that is not the token's fault.
        assert_eq!(world.outcome(&named(2000 + second)).await, Err(VerifyError::KeysUnavailable));
        assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
        world.pass(SECOND);
    }
    assert_eq!(issuer.requests() - before, 2);
}

#[tokio::test]
async fn while_the_issuer_is_down_its_keys_serve_until_they_are_an_hour_old() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    assert_eq!(world.outcome(&token).await, Ok(()));
    issuer.now_answers(down());
    world.pass(REFRESH_AFTER - SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 1);
    world.pass(SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 2, "asked again from the half of it on");
    world.pass(ASK_EVERY - SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 2);
    world.pass(SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 3);
    world.pass(FRESH - REFRESH_AFTER - ASK_EVERY - SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 4);
    world.pass(SECOND);
    assert_eq!(world.outcome(&token).await, Err(VerifyError::KeysUnavailable));
    assert_eq!(issuer.requests(), 4);
    issuer.now_has(&[&signer]);
    world.pass(RETRY_AFTER - SECOND);
    assert_eq!(world.outcome(&token).await, Ok(()));
    assert_eq!(issuer.requests(), 5);
}

#[tokio::test]
async fn keys_in_use_are_asked_for_twice_an_hour() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    for _ in 0..24 * 60 {
        assert_eq!(world.outcome(&token).await, Ok(()));
        world.pass(60 * SECOND);
    }
    assert_eq!(issuer.requests(), 48);
}

#[tokio::test]
async fn a_key_that_the_issuer_has_withdrawn_is_refused_from_the_next_request_on() {
    let (signer, new) = (Signer::rsa("1"), Signer::stranger("2"));
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&signer.token(&claims())).await, Ok(()));
    issuer.now_has(&[&new]);
    world.pass(REFRESH_AFTER);
    world.refuses(&signer.token(&claims()), Refused::UnknownKey).await;
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn after_a_failure_the_issuer_has_five_seconds_of_peace() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(down()).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    for second in 0..20 {
        assert_eq!(world.outcome(&token).await, Err(VerifyError::KeysUnavailable));
        assert_eq!(issuer.requests(), 1 + second / 5);
        world.pass(SECOND);
    }
    issuer.now_has(&[&signer]);
    assert_eq!(world.outcome(&token).await, Ok(()));
}

#[tokio::test]
async fn a_clock_that_is_set_back_causes_one_request() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims_but(json!({ "iat": 0 })));
    for at in [NOW, NOW - 7200] {
        world.clock.store(at, Ordering::SeqCst);
        for _ in 0..3 {
            assert_eq!(world.outcome(&token).await, Ok(()));
        }
    }
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn a_hundred_tokens_at_once_make_one_request() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("1"));
    let keys = Answer::keys(&[signer.jwk()]).bytes();
    let issuer = Issuer::answering(Answer::AtTheGate(keys)).await;
    let world = World::of(&issuer, &once());
    let tokens =
        [signer.token(&claims()), stranger.token(&claims()), stranger.sign(&json!({ "alg": "RS256", "kid": "2" }), &claims())];
    let outcomes = [Ok(()), Err(Refused::Signature.into()), Err(Refused::UnknownKey.into())];
    let mut all = Box::pin(join_all((0..100).map(|number| world.outcome(&tokens[number % 3]))));
    // Every one of them is on its way before the one answer is.
    assert!(poll!(&mut all).is_pending());
    issuer.open();
    for (number, outcome) in all.await.into_iter().enumerate() {
        assert_eq!(outcome, outcomes[number % 3], "{number}");
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_tokens_on_several_threads_make_one_request() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = Arc::new(World::of(&issuer, &once()));
    let token = signer.token(&claims());
    let tasks = (0..100).map(|_| {
        let (world, token) = (Arc::clone(&world), token.clone());
        tokio::spawn(async move { world.outcome(&token).await })
    });
    assert!(join_all(tasks).await.into_iter().all(|outcome| outcome.unwrap() == Ok(())));
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn a_hundred_tokens_at_once_make_one_request_that_fails() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(Answer::AtTheGate(down().bytes())).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    let mut all = Box::pin(join_all((0..100).map(|_| world.outcome(&token))));
    assert!(poll!(&mut all).is_pending());
    issuer.open();
    assert!(all.await.iter().all(|outcome| *outcome == Err(VerifyError::KeysUnavailable)));
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn while_one_caller_refreshes_the_keys_the_others_go_on() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::with(&[&signer]).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    assert_eq!(world.outcome(&token).await, Ok(()));
    world.pass(REFRESH_AFTER);
    issuer.now_answers(Answer::AtTheGate(Answer::keys(&[signer.jwk()]).bytes()));
    let mut asking = Box::pin(world.outcome(&token));
    assert!(poll!(&mut asking).is_pending());
    for _ in 0..10 {
        let mut other = Box::pin(world.outcome(&token));
        assert_eq!(poll!(&mut other), std::task::Poll::Ready(Ok(())), "nobody else waits");
    }
    issuer.open();
    assert_eq!(asking.await, Ok(()));
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn a_new_key_waits_for_the_request_that_is_on_its_way() {
    let (old, new) = (Signer::rsa("old"), Signer::stranger("new"));
    let issuer = Issuer::with(&[&old]).await;
    let world = World::of(&issuer, &once());
    assert_eq!(world.outcome(&old.token(&claims())).await, Ok(()));
    world.pass(REFRESH_AFTER);
    issuer.now_answers(Answer::AtTheGate(Answer::keys(&[old.jwk(), new.jwk()]).bytes()));
    let (old, new) = (old.token(&claims()), new.token(&claims()));
    let (mut first, mut second) = (Box::pin(world.outcome(&old)), Box::pin(world.outcome(&new)));
    assert!(poll!(&mut first).is_pending());
    assert!(poll!(&mut second).is_pending());
    issuer.open();
    assert_eq!(tokio::join!(first, second), (Ok(()), Ok(())));
    assert_eq!(issuer.requests(), 2);
}

#[tokio::test]
async fn a_caller_that_gives_up_neither_blocks_the_next_nor_frees_the_issuer_for_all() {
    let signer = Signer::rsa("1");
    let issuer = Issuer::answering(Answer::Stuck(Vec::new())).await;
    let world = World::of(&issuer, &once());
    let token = signer.token(&claims());
    let mut asking = Box::pin(world.outcome(&token));
    assert!(poll!(&mut asking).is_pending());
    drop(asking);
    let mut next = Box::pin(world.outcome(&token));
    assert_eq!(poll!(&mut next), std::task::Poll::Ready(Err(VerifyError::KeysUnavailable)), "it does not ask");
    issuer.now_has(&[&signer]);
    world.pass(RETRY_AFTER);
    assert_eq!(world.outcome(&token).await, Ok(()));
}

#[tokio::test]
async fn issuers_do_not_wait_for_each_other() {
    let (signer, stranger) = (Signer::rsa("1"), Signer::stranger("1"));
    let (a, b) = (Issuer::answering(Answer::Stuck(Vec::new())).await, Issuer::with(&[&stranger]).await);
    let world = World::new(&a, &b);
    let token = signer.token(&claims());
    let mut asking = Box::pin(world.outcome(&token));
    assert!(poll!(&mut asking).is_pending());
    let of_b = claims_but(json!({ "iss": B, "token_use": null }));
    assert_eq!(world.outcome(&stranger.token(&of_b)).await, Ok(()));
    assert!(poll!(&mut asking).is_pending());
    assert_eq!(b.requests(), 1);
}
