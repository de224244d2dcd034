//! What a message is answered with.

use std::time::Duration;

use sluice_mllp::{ApplicationAck, Keep, Limits, Receipt, Standing};

use crate::support::{DEADLINE, Gateway, Setup, adt, adt_with, eventually};

/// A gateway whose application acknowledgment says what became of the message.
fn stored_mode() -> Setup {
    let mut setup = Setup::default();
    setup.feed.application_ack = ApplicationAck::Stored;
    // No test depends on an outcome that comes late by chance.
    setup.limits(|limits| limits.outcome = DEADLINE)
}

#[tokio::test]
async fn a_message_is_acknowledged_and_delivered_as_it_came() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let ack = peer.exchange(adt("A1")).await;
    assert_eq!(ack.code(), ("AA", "A1"));
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
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
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
    let expected: Vec<&str> = (0..500).map(|nth| if nth % 7 == 3 { "AE" } else { "AA" }).collect();
    let messages = ids.iter().zip(&expected).map(|(id, code)| {
        let message = adt(id).into_bytes();
        if *code == "AE" { [&message[..], b"NTE|\xff\r"].concat() } else { message }
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
async fn the_application_acknowledgment_can_say_what_became_of_the_message() {
    let held = || Standing::Held("denied".to_owned());
    let cases = [
        (Keep::UntilStored, Standing::Stored, "AA", ""),
        (Keep::UntilStored, Standing::Unparsable, "AA", "cannot be parsed"),
        // What is kept, by the lake or by the gateway, is never refused.
        (Keep::UntilStored, held(), "AA", "the lake keeps the message and has not stored it (denied)"),
        (Keep::UntilStored, Standing::Lost, "AA", "the gateway keeps it and submits it again"),
        (Keep::UntilStored, Standing::Discarded, "AE", "discarded the message"),
        (Keep::UntilQueued, Standing::Stored, "AA", ""),
        (Keep::UntilQueued, held(), "AA", "the lake keeps the message and has not stored it (denied)"),
        (Keep::UntilQueued, Standing::Lost, "AR", "send it again"),
        (Keep::UntilQueued, Standing::Discarded, "AE", "discarded the message"),
    ];
    for (keep, standing, code, text) in cases {
        let mut setup = stored_mode();
        setup.options.keep = keep;
        let gateway = setup.start().await;
        gateway.stub.set(|state| state.outcome = Some(standing.clone()));
        let ack = gateway.connect().await.exchange(adt("A1")).await;
        assert_eq!(ack.code(), (code, "A1"), "{keep:?} {standing:?}");
        assert!(ack.error().contains(text) && ack.error().is_empty() == text.is_empty(), "{standing:?}: {}", ack.text);
        gateway.stop().await;
    }
    let gateway = stored_mode().start().await;
    let mut peer = gateway.connect().await;
    // The lake had it before.
    gateway.stub.set(|state| (state.outcome, state.answers) = (None, vec![("A2", Receipt::Duplicate)]));
    assert_eq!(peer.exchange(adt("A2")).await.code(), ("AA", "A2"));
    let report = gateway.stop().await;
    assert_eq!((report.acknowledged, report.rejected, report.duplicates, report.stored), (1, 0, 1, 1));
}

#[tokio::test]
async fn without_an_outcome_in_time_the_message_is_accepted_with_a_note() {
    assert!(Limits::default().outcome < Duration::from_secs(5), "Mirth waits 5 s, HAPI 10 s");
    let gateway = stored_mode().limits(|limits| limits.outcome = Duration::from_millis(200)).start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    let ack = peer.exchange(adt("A1")).await;
    let note = "no outcome within 0.2 s: the gateway keeps the message and will still deliver it";
    assert_eq!((ack.code(), ack.field("MSA", 3)), (("AA", "A1"), note));
    assert!(ack.error().contains("|0^Message accepted^HL70357|I|") && ack.error().ends_with(note), "{}", ack.text);
    // A sender of the enhanced mode has its commit acknowledgment before.
    peer.send_message(adt_with("A2", "AL|AL")).await;
    assert_eq!(peer.answer().await.code(), ("CA", "A2"));
    assert_eq!(peer.answer().await.code(), ("AA", "A2"));
    gateway.stub.set(|state| state.is_down = false);
    gateway.stub.until("delivered", |state| state.delivered.len() == 2).await;
    let report = gateway.stop().await;
    assert_eq!((report.acknowledged, report.rejected), (2, 0));
}

#[tokio::test]
async fn a_sender_who_waits_when_the_gateway_stops_is_told_that_the_message_is_kept() {
    let gateway = stored_mode().start().await;
    gateway.stub.set(|state| state.is_down = true);
    let mut peer = gateway.connect().await;
    peer.send_message(adt("A1")).await;
    gateway.until_reported("spooled", 1).await;
    let (folder, stub) = (gateway.folder.clone(), gateway.stub.clone());
    assert_eq!(gateway.stop().await.spooled, 1);
    let ack = peer.answer().await;
    assert_eq!(ack.code(), ("AA", "A1"));
    assert!(ack.error().contains("shutting down: the gateway keeps the message"), "{}", ack.text);
    assert_eq!(peer.next().await, None);

    stub.set(|state| state.is_down = false);
    let gateway = Setup { folder, stub, ..Setup::default() }.start().await;
    gateway.stub.until("delivered", |state| !state.delivered.is_empty()).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_message_that_can_never_be_stored_is_refused_at_once() {
    let code = "AE";
    for setup in [Setup::default(), stored_mode()] {
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
        gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
        assert!(peer.exchange(adt("A3")).await.code().0.ends_with('A'));
        let (lines, address) = (gateway.lines.clone(), peer.stream.local_addr().unwrap().to_string());
        let report = gateway.stop().await;
        assert_eq!((report.rejected, report.acknowledged), (4, 1));
        let lines = lines.lock().unwrap();
        let rejected: Vec<_> = lines.iter().filter(|line| line["event"] == "rejected").collect();
        let reasons = ["the message is empty", "the message is too large", "the message is not valid ISO-8859-6"];
        assert_eq!(rejected.len(), reasons.len(), "each reason once: {rejected:?}");
        for (line, reason) in rejected.iter().zip(reasons) {
            assert!(line["reason"].as_str().unwrap().starts_with(reason), "{line}");
            assert!(line["feed"] == "adt" && line["peer"] == address.as_str() && line["connection"] == 1, "{line}");
        }
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
        assert_eq!(msa, [b"MSA|AA|", name].concat(), "{msh_18}");
        gateway.stub.until("delivered", |state| state.delivered.contains_key(&message)).await;
    }
    gateway.stop().await;
}

/// Codes of MSH-15 and MSH-16, what a kept message is answered with, and one that is not kept.
const ENHANCED: [(&str, &[&str], &[&str]); 16] = [
    ("AL|AL", &["CA", "AA"], &["CE", "AE"]),
    ("AL|NE", &["CA"], &["CE"]),
    ("AL|ER", &["CA"], &["CE", "AE"]),
    ("AL|SU", &["CA", "AA"], &["CE"]),
    ("NE|AL", &["AA"], &["AE"]),
    ("NE|NE", &[], &[]),
    ("NE|ER", &[], &["AE"]),
    ("NE|SU", &["AA"], &[]),
    ("ER|AL", &["AA"], &["CE", "AE"]),
    ("ER|NE", &[], &["CE"]),
    ("ER|ER", &[], &["CE", "AE"]),
    ("ER|SU", &["AA"], &["CE"]),
    ("SU|AL", &["CA", "AA"], &["AE"]),
    ("SU|NE", &["CA"], &[]),
    ("SU|ER", &["CA"], &["AE"]),
    ("SU|SU", &["CA", "AA"], &[]),
];

#[tokio::test]
async fn a_sender_is_answered_as_msh_15_and_msh_16_say() {
    for setup in [Setup::default(), stored_mode()] {
        let gateway = setup.start().await;
        gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
        let mut peer = gateway.connect().await;
        for (nth, (asked, kept, refused)) in ENHANCED.into_iter().enumerate() {
            for (id, codes, end) in [(format!("K{nth}"), kept, &b""[..]), (format!("R{nth}"), refused, b"NTE|\xff\r")] {
                peer.send_message([adt_with(&id, asked).as_bytes(), end].concat()).await;
                for code in codes {
                    assert_eq!(peer.answer().await.code(), (*code, id.as_str()), "{asked}");
                }
                // Nothing else is sent for it, and a message without an answer does not hold up the next one.
                let next = format!("N{id}");
                assert_eq!(peer.exchange(adt(&next)).await.code(), ("AA", next.as_str()), "{asked}");
            }
        }
        gateway.stub.until("all is delivered", |state| state.delivered.len() == 16 + 32).await;
        let report = gateway.stop().await;
        assert_eq!((report.acknowledged, report.rejected), (48, 16));
    }
}

#[tokio::test]
async fn in_enhanced_mode_the_application_acknowledgment_comes_with_the_outcome_and_the_commit_acknowledgment_before_it() {
    let gateway = stored_mode().start().await;
    let mut peer = gateway.connect().await;
    for (outcome, code) in [(Standing::Stored, "AA"), (Standing::Discarded, "AE")] {
        gateway.stub.set(|state| state.outcome = None);
        peer.send_message(adt_with("A1", "AL|AL")).await;
        assert_eq!(peer.answer().await.code(), ("CA", "A1"), "the outcome is not known yet");
        gateway.stub.set(|state| state.outcome = Some(outcome));
        assert_eq!(peer.answer().await.code(), (code, "A1"));
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_acknowledgment_is_kept_and_never_acknowledged() {
    let gateway = Gateway::start().await;
    let mut peer = gateway.connect().await;
    let ack = adt_with("ACK1", "AL|AL").replace("ADT^A01^ADT_A01", "ACK^A01^ACK").replace("EVN|A01|20260102030405", "MSA|AA|1");
    peer.send_message(&ack).await;
    // Nor is one that cannot be read.
    peer.send_message([ack.as_bytes(), b"\xff"].concat()).await;
    assert_eq!(peer.exchange(adt("A1")).await.code(), ("AA", "A1"));
    gateway.stub.until("both are delivered", |state| state.delivered.len() == 2).await;
    assert!(gateway.stub.has(ack.as_bytes()));
    gateway.stop().await;
}

#[tokio::test]
async fn a_query_is_kept_and_its_sender_is_told_at_once_that_nobody_answers_it() {
    for setup in [Setup::default(), stored_mode()] {
        let gateway = setup.start().await;
        let mut peer = gateway.connect().await;
        let query = "MSH|^~\\&|BA400|LAB|LIS|HOSP|20260101||QBP^Q11^QBP_Q11|Q1|P|2.5.1|||ER|AL\r\
                     QPD|WOS^Work Order Step^IHE_LABTF|T7|S-1\rRCP|I||R\r";
        let answer = peer.exchange(query).await;
        assert_eq!((answer.code(), answer.field("MSH", 8)), (("AR", "Q1"), "RSP^K11^RSP_K11"), "{}", answer.text);
        assert!(answer.error().contains("|200^Unsupported message type^HL70357|E|"), "{}", answer.text);
        assert_eq!((answer.field("QAK", 1), answer.field("QAK", 2), answer.field("QPD", 3)), ("T7", "AR", "S-1"));
        gateway.stub.until("it is delivered", |state| state.delivered.contains_key(query.as_bytes())).await;
        let report = gateway.stop().await;
        assert_eq!((report.acknowledged, report.rejected), (1, 0), "it is kept");
    }
}

#[tokio::test]
async fn a_batch_is_one_submission_and_has_one_answer() {
    let gateway = stored_mode().start().await;
    gateway.stub.set(|state| state.outcome = Some(Standing::Stored));
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
async fn a_message_that_the_api_refuses_is_set_aside_with_the_reason_and_the_others_go_on() {
    let gateway = Gateway::start().await;
    let refused = Receipt::Refused { status: 413, detail: "the message is too large".to_owned() };
    gateway.stub.set(|state| state.answers = vec![("BAD", refused)]);
    let mut peer = gateway.connect().await;
    assert_eq!(peer.exchange(adt("BAD")).await.code(), ("AA", "BAD"));
    assert_eq!(peer.exchange(adt("GOOD")).await.code(), ("AA", "GOOD"));
    gateway.until_reported("refused", 1).await;
    gateway.until_reported("spooled", 0).await;
    let mut files: Vec<_> = std::fs::read_dir(gateway.spool().join("refused")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    assert_eq!(std::fs::read(&files[0]).unwrap(), adt("BAD").as_bytes());
    let reason = std::fs::read_to_string(&files[1]).unwrap();
    assert!(reason.contains("\"status\": 413") && reason.contains("too large") && !reason.contains("DOE"), "{reason}");
    assert_eq!(gateway.said("refused").unwrap()["status"], 413);
    assert_eq!(gateway.stop().await.delivered, 1);

    // A sender that waits for the outcome is told.
    let gateway = stored_mode().start().await;
    let refused = Receipt::Refused { status: 400, detail: "no message".to_owned() };
    gateway.stub.set(|state| state.answers = vec![("BAD", refused)]);
    let ack = gateway.connect().await.exchange(adt("BAD")).await;
    assert_eq!(ack.code(), ("AE", "BAD"));
    assert!(ack.error().contains("the API refuses the message: no message"), "{}", ack.text);
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_spool_is_answered_with_a_rejection_and_room_makes_it_good_again() {
    for application_ack in [ApplicationAck::Safe, ApplicationAck::Stored] {
        let mut setup = Setup { max_spool_bytes: 20_000, ..Setup::default() };
        setup.feed.application_ack = application_ack;
        setup.options.limits.outcome = Duration::from_millis(300);
        let gateway = setup.start().await;
        gateway.stub.set(|state| (state.is_down, state.outcome) = (true, Some(Standing::Stored)));
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
        assert_eq!(full.code(), ("AR", "A1"), "{}", full.text);
        gateway.stub.set(|state| state.is_down = false);
        gateway.until_reported("spooled", 0).await;
        loop {
            let ack = peer.exchange(adt("A2")).await;
            if ack.code().0 == "AA" {
                break;
            }
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn nothing_of_a_message_is_in_the_log() {
    let gateway = Gateway::start().await;
    gateway.stub.set(|state| state.answers = vec![("SECRET2", Receipt::Refused { status: 400, detail: "no".to_owned() })]);
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
    gateway.stub.set(|state| (state.never, state.is_never_alone) = (Some("NEVER"), true));
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
