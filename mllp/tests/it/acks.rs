//! What a message is answered with.

use std::time::Duration;

use sluice_mllp::{AckMode, Outcome, Part};

use crate::support::{Gateway, Setup, adt, adt_with, eventually};

fn outcome_mode() -> Setup {
    let mut setup = Setup::default();
    setup.options.mode = AckMode::Outcome;
    setup
}

#[tokio::test]
async fn a_message_is_acknowledged_and_delivered_as_it_came() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let ack = peer.exchange(adt("A1")).await;
    assert_eq!(ack.code(), ("CA", "A1"));
    assert!(ack.text.starts_with("MSH|^~\\&|LAKE|HUB|HIS|WEST|"), "{}", ack.text);
    gateway.stub.until("delivered", |state| !state.delivered.is_empty()).await;
    assert!(gateway.stub.has(adt("A1").as_bytes()));
    let report = gateway.stop().await;
    assert_eq!((report.received, report.acknowledged, report.delivered, report.spooled), (1, 1, 1, 0));
}

#[tokio::test]
async fn an_acknowledgment_does_not_wait_for_the_api() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("CA", "A1"));
    gateway.stub.until("tried", |state| state.tries > 0).await;
    gateway.until_reported("spooled", 1).await;
    gateway.stub.set(|state| state.is_down = false);
    gateway.stub.until("delivered", |state| !state.delivered.is_empty()).await;
    eventually("said so", || gateway.said("api").is_some_and(|line| line["answers"] == true)).await;
    let report = gateway.stop().await;
    assert!(report.tries_again > 0 && report.spooled == 0, "{report:?}");
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_messages() {
    let gateway = Gateway::start().await;
    let peer = gateway.connect().await;
    // More than may be unanswered, good and bad ones, in one write.
    let ids: Vec<String> = (0..500).map(|nth| format!("P{nth}")).collect();
    let expected: Vec<&str> = (0..500).map(|nth| if nth % 7 == 3 { "CE" } else { "CA" }).collect();
    let messages = ids.iter().zip(&expected).map(|(id, code)| {
        let message = adt(id).into_bytes();
        if *code == "CE" { [&message[..], b"NTE|\xff\r"].concat() } else { message }
    });
    let bytes: Vec<u8> = messages.flat_map(|message| sluice_mllp::framed(&message)).collect();
    let (mut read, mut write) = tokio::io::split(peer.stream);
    let sent = tokio::spawn(async move {
        tokio::io::AsyncWriteExt::write_all(&mut write, &bytes).await.unwrap();
        write
    });
    let mut answers = crate::support::Peer::new(tokio::io::join(&mut read, tokio::io::sink()));
    for (id, code) in ids.iter().zip(&expected) {
        assert_eq!(answers.answer().await.code(), (*code, id.as_str()));
    }
    sent.await.unwrap();
    let report = gateway.stop().await;
    assert_eq!((report.acknowledged, report.rejected), (429, 71));
}

#[tokio::test]
async fn in_outcome_mode_the_answer_is_what_became_of_the_message() {
    let cases = [
        (Outcome::Stored, "AA", ""),
        (Outcome::Unparsable, "AA", "cannot be parsed"),
        (Outcome::Denied, "AE", "may not write"),
        (Outcome::Expired, "AR", "sign-in ended"),
        (Outcome::Failed, "AR", "failed"),
    ];
    let gateway = outcome_mode().start().await;
    let mut peer = gateway.connect().await;
    for (outcome, code, text) in cases {
        gateway.stub.set(|state| state.outcome = Some(outcome));
        let ack = peer.exchange(adt("A1")).await;
        assert_eq!(ack.code(), (code, "A1"), "{outcome:?}");
        assert!(ack.error().contains(text) && ack.error().is_empty() == text.is_empty(), "{outcome:?}: {}", ack.text);
    }
    // The lake had it before.
    gateway.stub.set(|state| (state.outcome, state.answers) = (None, vec![("A2", Part::Duplicate)]));
    assert_eq!(peer.exchange(adt("A2")).await.code(), ("AA", "A2"));
    let report = gateway.stop().await;
    assert_eq!((report.acknowledged, report.rejected, report.duplicates), (3, 3, 1));
}

#[tokio::test]
async fn without_an_outcome_in_time_the_message_is_kept_and_the_answer_says_so() {
    let gateway = outcome_mode().limits(|limits| limits.outcome = Duration::from_millis(200)).start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    let ack = peer.exchange(adt("A1")).await;
    assert_eq!(ack.code(), ("AR", "A1"));
    assert!(
        ack.error().contains("no outcome within 0 s: the gateway keeps the message and will still deliver it"),
        "{}",
        ack.text
    );
    gateway.stub.set(|state| state.is_down = false);
    gateway.stub.until("delivered", |state| !state.delivered.is_empty()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn whoever_waits_when_the_gateway_stops_is_told_that_the_message_is_kept() {
    let gateway = outcome_mode().start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    peer.send_message(adt("A1")).await;
    gateway.until_reported("spooled", 1).await;
    let (folder, stub) = (gateway.folder.clone(), gateway.stub.clone());
    assert_eq!(gateway.stop().await.spooled, 1);
    let ack = peer.answer().await;
    assert_eq!(ack.code(), ("AR", "A1"));
    assert!(ack.error().contains("shutting down: the gateway keeps the message"), "{}", ack.text);
    assert_eq!(peer.next().await, None);

    stub.set(|state| state.is_down = false);
    let gateway = Setup { folder, stub, ..Setup::default() }.start().await;
    gateway.stub.until("delivered", |state| !state.delivered.is_empty()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn what_can_never_be_stored_is_refused_at_once() {
    for (mode, code) in [(AckMode::Queued, "CE"), (AckMode::Outcome, "AE")] {
        let mut setup = Setup::default();
        setup.options.mode = mode;
        let gateway = setup.limits(|limits| limits.frame_bytes = 10_000).start().await;
        let mut peer = gateway.connect().await;

        assert_eq!(peer.exchange("").await.code(), (code, ""));
        assert_eq!(peer.exchange(" \r\n").await.code(), (code, ""));

        let large = adt("A1") + &"OBX|1|TX|||x\r".repeat(1_000);
        let ack = peer.exchange(&large).await;
        assert_eq!(ack.code(), (code, "A1"), "its header is read though it is not kept");
        assert!(ack.error().contains("too large: it has more than 10000 bytes"), "{}", ack.text);

        let bad = [adt_with("A2", "|||8859/6").as_bytes(), b"NTE|\xa1\r"].concat();
        let ack = peer.exchange(&bad).await;
        assert_eq!(ack.code(), (code, "A2"));
        let offset = format!("not valid ISO-8859-6: byte {} cannot be decoded", bad.len() - 2);
        assert!(ack.error().contains(&offset) && ack.error().contains("MSH^1^18"), "{}", ack.text);

        // All that is the message's fault; the connection is as good as before.
        gateway.stub.set(|state| state.outcome = Some(Outcome::Stored));
        assert!(peer.exchange(adt("A3")).await.code().0.ends_with('A'));
        let report = gateway.stop().await;
        assert_eq!((report.rejected, report.acknowledged), (4, 1));
    }
}

#[tokio::test]
async fn a_message_in_another_character_set_is_answered_in_it() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let cases = [("8859/1", &b"M\xfcller"[..]), ("UNICODE UTF-8", "Müller".as_bytes()), ("8859/2", b"Dvo\xf8\xe1k")];
    for (msh_18, name) in cases {
        let text = adt_with("K", &format!("|||{msh_18}"));
        // The control id comes back as it came, and so has to be said in the message's own character set.
        let (before, after) = text.split_once("|K|").unwrap();
        let message = [before.as_bytes(), b"|", name, b"|", after.as_bytes()].concat();
        peer.send_message(&message).await;
        let ack = peer.answer_bytes().await;
        let msa = ack.split(|byte| *byte == b'\r').find(|segment| segment.starts_with(b"MSA")).unwrap();
        assert_eq!(msa, [b"MSA|CA|", name].concat(), "{msh_18}");
        gateway.stub.until("delivered", |state| state.delivered.contains_key(&message)).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_sender_is_answered_as_msh_15_and_msh_16_say() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.outcome = Some(Outcome::Stored));
    let mut peer = gateway.connect().await;
    for (nth, (asked, code)) in
        [("AL|NE", "CA"), ("NE|AL", "AA"), ("AL|AL", "CA"), ("NE|NE", ""), ("ER|ER", "")].into_iter().enumerate()
    {
        let (id, next) = (format!("M{nth}"), format!("N{nth}"));
        peer.send_message(adt_with(&id, asked)).await;
        if !code.is_empty() {
            assert_eq!(peer.answer().await.code(), (code, id.as_str()), "{asked}");
        }
        // What is not answered does not hold up what follows it.
        assert_eq!(peer.exchange(adt(&next)).await.code(), ("CA", next.as_str()));
    }
    gateway.stub.until("all is delivered", |state| state.delivered.len() == 10).await;
    assert_eq!(gateway.stop().await.acknowledged, 10);
}

#[tokio::test]
async fn a_batch_is_one_submission_and_has_one_answer() {
    let gateway = outcome_mode().start().await;
    gateway.stub.set(|state| state.outcome = Some(Outcome::Stored));
    let mut peer = gateway.connect().await;
    let batch = format!("FHS|^~\\&|HIS\rBHS|^~\\&|HIS\r{}{}BTS|2\rFTS|1\r", adt("B1"), adt("B2"));
    peer.send_message(&batch).await;
    let answer = peer.answer().await.text;
    let acks: Vec<&str> = answer.split('\r').filter(|segment| segment.starts_with("MSA")).collect();
    assert_eq!(acks, ["MSA|AA|B1", "MSA|AA|B2"]);
    assert!(answer.starts_with("FHS|") && answer.trim_end().ends_with("FTS|1"), "{answer}");
    assert!(gateway.stub.has(batch.as_bytes()));
    let report = gateway.stop().await;
    assert_eq!((report.received, report.delivered), (1, 1));
}

#[tokio::test]
async fn what_the_api_refuses_is_set_aside_with_the_reason_and_the_rest_goes_on() {
    let gateway = Gateway::start().await;
    let refused = Part::Refused { status: 413, detail: "the message is too large".to_owned() };
    gateway.stub.set(|state| state.answers = vec![("BAD", refused)]);
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(adt("BAD")).await.code(), ("CA", "BAD"));
    assert_eq!(peer.exchange(adt("GOOD")).await.code(), ("CA", "GOOD"));
    gateway.until_reported("refused", 1).await;
    gateway.until_reported("spooled", 0).await;
    let mut files: Vec<_> = std::fs::read_dir(gateway.spool().join("refused")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    assert_eq!(std::fs::read(&files[0]).unwrap(), adt("BAD").as_bytes());
    let reason = std::fs::read_to_string(&files[1]).unwrap();
    assert!(reason.contains("\"status\": 413") && reason.contains("too large") && !reason.contains("DOE"), "{reason}");
    assert_eq!(gateway.said("refused").unwrap()["status"], 413);
    assert_eq!(gateway.stop().await.delivered, 1);

    // And in outcome mode the sender is told.
    let gateway = outcome_mode().start().await;
    let refused = Part::Refused { status: 400, detail: "no message".to_owned() };
    gateway.stub.set(|state| state.answers = vec![("BAD", refused)]);
    let ack = gateway.connect().await.exchange(adt("BAD")).await;
    assert_eq!(ack.code(), ("AE", "BAD"));
    assert!(ack.error().contains("the API does not take the message: no message"), "{}", ack.text);
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_spool_is_answered_with_a_rejection_and_room_makes_it_good_again() {
    for (mode, accept, reject) in [(AckMode::Queued, "CA", "CR"), (AckMode::Outcome, "AA", "AR")] {
        let mut setup = Setup { max_spool_bytes: 20_000, ..Setup::default() };
        setup.options.mode = mode;
        setup.options.limits.outcome = Duration::from_millis(300);
        let gateway = setup.start().await;
        gateway.stub.set(|state| (state.is_down, state.outcome) = (true, Some(Outcome::Stored)));
        let mut peer = gateway.connect().await;
        let mut kept = 0;
        let full = loop {
            let ack = peer.exchange(adt("A1") + &"NTE|1||x\r".repeat(200)).await;
            if ack.error().contains("the gateway's spool is full: the message is not kept") {
                break ack;
            }
            kept += 1;
        };
        assert!(kept > 5, "{kept}");
        assert_eq!(full.code(), (reject, "A1"), "{}", full.text);
        gateway.stub.set(|state| state.is_down = false);
        gateway.until_reported("spooled", 0).await;
        loop {
            let ack = peer.exchange(adt("A2")).await;
            if ack.code().0 == accept {
                break;
            }
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn nothing_of_a_message_is_in_the_log() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.answers = vec![("SECRET2", Part::Refused { status: 400, detail: "no".to_owned() })]);
    let mut peer = gateway.connect().await;
    for message in [adt("SECRET1"), adt("SECRET2"), adt("SECRET3") + "\u{0}"] {
        peer.exchange(message).await;
    }
    peer.exchange([adt("SECRET4").as_bytes(), b"\xff"].concat()).await;
    gateway.until_reported("spooled", 0).await;
    let lines = gateway.lines.clone();
    gateway.stop().await;
    let log = format!("{:?}", lines.lock().unwrap());
    for content in ["SECRET", "DOE", "4711", "WEST"] {
        assert!(!log.contains(content), "{log}");
    }
}

#[tokio::test]
async fn a_message_that_always_fails_holds_up_no_other() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.never = Some("NEVER"));
    let mut peer = gateway.connect().await;
    peer.exchange(adt("NEVER")).await;
    gateway.stub.until("it is tried", |state| state.tries > 0).await;
    // As long as nothing else is delivered, it may be the API that fails.
    let mut number = 0;
    let mut deliver = async || {
        number += 1;
        let message = adt(&format!("GOOD{number}"));
        peer.exchange(&message).await;
        gateway.stub.until("a good one is delivered", |state| state.delivered.contains_key(message.as_bytes())).await;
    };
    while gateway.said("putOff").is_none() {
        deliver().await;
    }
    let complaints = || gateway.lines.lock().unwrap().iter().filter(|line| line["event"] == "api").count();
    let (before, tries) = (complaints(), gateway.stub.get(|state| state.tries));
    while gateway.stub.get(|state| state.tries) < tries + 2 {
        deliver().await;
    }
    assert_eq!(complaints(), before, "nobody says that the API does not answer");
    gateway.stub.set(|state| state.never = None);
    gateway.until_reported("spooled", 0).await;
    assert!(gateway.stub.get(|state| state.delivered.contains_key(adt("NEVER").as_bytes())));
    gateway.stop().await;
}
