//! Each message once, however often and however simultaneously it is submitted.

use anyhow::Result;
use futures_util::future::join_all;
use serde_json::json;
use sluice_tests::{DEADLINE, Harness, adt, unique};

use crate::failures::REDRIVE;
use crate::listen::Listener;

#[tokio::test]
async fn sixty_four_simultaneous_submissions_store_one_message() -> Result<()> {
    let it = Harness::new()?;
    let admin = it.admin().await?;
    let message = adt(&unique(), "DOE");
    let mut listener = Listener::new(&it, json!({ "source": [it.institute] }), &[&it.institute]).await?;
    // The first request starts the authorizer, whose answer API Gateway remembers. The 64 start processes of `submit`, so that no
    // start delays a request below.
    for simultaneous in [1, 64] {
        for answer in join_all((0..simultaneous).map(|_| it.submit_patiently(&admin, ""))).await {
            assert_eq!(answer?.status, 400);
        }
    }
    let answers = join_all((0..64).map(|_| it.submit(&admin, &message))).await;
    let mut queued = 0;
    let mut message_id = String::new();
    for answer in answers {
        let answer = answer?;
        assert!(matches!(answer.status.as_u16(), 202 | 409), "{}", answer.status);
        queued += usize::from(answer.status == 202);
        message_id = answer.text("messageId");
    }
    assert!(queued >= 1);
    let status = it.api.final_status(&message_id, &admin.token, DEADLINE).await?;
    assert_eq!((&status["status"], status["submissions"].as_u64()), (&"stored".into(), Some(64)));

    // One is announced as stored, and every other one that came into the queue as a duplicate.
    let heard = listener.hear(queued).await?;
    let of_type = |kind: &str| heard.iter().filter(|heard| heard.kind() == kind).count();
    assert_eq!((of_type("stored"), of_type("duplicate"), heard.len()), (1, queued - 1, queued));
    let versions = it.object_versions().await?;
    let er7: Vec<_> = versions.iter().filter(|(key, _)| key.ends_with(".hl7")).collect();
    assert_eq!((er7.len(), versions.len()), (1, 2), "one version of the message and one of its rendition");
    let _undisturbed = REDRIVE.read().await;
    assert_eq!(it.dead_letters_of_institute().await?, 0);
    Ok(())
}

#[tokio::test]
async fn a_submission_after_a_failed_one_is_tried_anew() -> Result<()> {
    let it = Harness::new()?;
    let message = adt(&unique(), "DOE");
    let source: domain::Source = it.institute.parse()?;
    let message_id = domain::Er7::canonical(&message)?.message_id();
    let submitted =
        domain::SubmittedMessage { submission_id: runtime::new_submission_id(), message_id: message_id.clone(), source };
    // A submission that was noted and never reached the queue, and then failed.
    let catalog = it.catalog();
    let now = runtime::now();
    let somebody = domain::Requester { subject: unique(), issuer: unique() };
    catalog.record_submission(&submitted, now, &somebody).await?;
    catalog.claim(&submitted, now, now, std::time::Duration::from_secs(1)).await?;
    catalog.give_up(&submitted, domain::Status::Failed, "PayloadExpired").await?;

    let (_, status) = it.store(&it.admin().await?, &message).await?;
    assert_eq!((&status["status"], status.get("error")), (&"stored".into(), None));
    assert_eq!(status["submissions"], 2);
    Ok(())
}
