use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::record::{HEADER_BYTES, Header};
use super::*;
use crate::origin::Origin;

const MAX: u64 = 1024 * 1024;

fn open(folder: &TempDir) -> (Spool, Recovery) {
    Spool::open(&folder.path().join("spool"), "west", MAX).unwrap()
}

fn label() -> Arc<Label> {
    Arc::new(Label::new(Origin { feed: "adt".to_owned(), ..Origin::default() }))
}

async fn append(spool: &Spool, message: &[u8]) -> Result<(), Unwritten> {
    spool.append(&label(), message.to_vec(), 7, None).await.await.unwrap_or(Err(Unwritten::Stopped))
}

async fn message(spool: &Spool, entry: &Entry) -> Vec<u8> {
    match spool.read(entry).await.unwrap() {
        Content::Message { message, .. } => message,
        Content::Damaged => panic!("damaged"),
    }
}

/// Takes all there is, in the order in which it comes.
async fn drain(spool: &Spool) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    // Not by the status: what was said to be done counts until the writer has heard of it.
    while spool.shared.available.available_permits() > 0 {
        let entry = spool.take(Lane::Small).await;
        messages.push(message(spool, &entry).await);
        spool.done(&entry);
    }
    messages
}

/// The files of a folder of the spool, by name.
fn files(folder: &TempDir, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.path().join("spool").join(name)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn log_file(folder: &TempDir) -> PathBuf {
    files(folder, "segments").into_iter().find(|path| path.extension().is_some_and(|it| it == "log")).unwrap()
}

#[tokio::test]
async fn undelivered_messages_and_no_others_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, recovery) = open(&folder);
    assert_eq!(recovery, Recovery::default());
    for message in [&b"one"[..], b"", b"three", b"four"] {
        append(&spool, message).await.unwrap();
    }
    for _ in 0..2 {
        spool.done(&spool.take(Lane::Small).await);
    }
    // Taken and not done when the process ends.
    let _in_hand = spool.take(Lane::Small).await;
    assert_eq!(spool.backlog().oldest_ms, Some(7));
    spool.close().await;
    assert_eq!(append(&spool, b"late").await.unwrap_err(), Unwritten::Stopped);
    drop(spool);

    let (spool, recovery) = open(&folder);
    assert_eq!(recovery, Recovery { messages: 2, damaged: 0 });
    assert_eq!(drain(&spool).await, [&b"three"[..], b"four"]);
    spool.close().await;
    drop(spool);
    assert_eq!(files(&folder, "segments"), Vec::<PathBuf>::new(), "what is delivered leaves the disk");
    assert_eq!(open(&folder).1, Recovery::default());
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_was_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    append(&spool, b"two").await.unwrap();
    // A copy of the folder is what another process would find now.
    let copy = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(copy.path().join("spool/segments")).unwrap();
    let log = log_file(&folder);
    let bytes = std::fs::read(&log).unwrap();
    let to = copy.path().join("spool/segments").join(log.file_name().unwrap());
    // And half of a third message.
    std::fs::write(&to, [&bytes[..], &bytes[..bytes.len() / 4]].concat()).unwrap();
    let (spool, recovery) = open(&copy);
    assert_eq!(recovery, Recovery { messages: 2, damaged: 1 });
    assert_eq!(drain(&spool).await, [b"one", b"two"]);
    append(&spool, b"three").await.unwrap();
    assert_eq!(drain(&spool).await, [b"three"]);
}

#[tokio::test]
async fn a_damaged_record_is_set_aside_and_the_others_are_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    for message in [b"one", b"two", b"six"] {
        append(&spool, message).await.unwrap();
    }
    spool.close().await;
    drop(spool);
    let path = log_file(&folder);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() / 3 + HEADER_BYTES + label().encoded().len();
    assert_eq!(&bytes[at..at + 3], b"two");
    bytes[at] = b'T';
    std::fs::write(&path, &bytes).unwrap();

    let (spool, recovery) = open(&folder);
    assert_eq!(recovery, Recovery { messages: 2, damaged: 1 });
    let aside = files(&folder, "damaged");
    assert!(std::fs::read(&aside[0]).unwrap().ends_with(b"Two"));
    spool.close().await;
    drop(spool);
    // It is told once.
    let (spool, recovery) = open(&folder);
    assert_eq!(recovery, Recovery { messages: 2, damaged: 0 });
    assert_eq!(drain(&spool).await, [b"one", b"six"]);
}

#[tokio::test]
async fn a_record_that_is_damaged_while_it_waits_is_not_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    append(&spool, b"two").await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(log_file(&folder)).unwrap();
    file.write_all_at(b"X", HEADER_BYTES as u64).unwrap();
    let entry = spool.take(Lane::Small).await;
    assert!(matches!(spool.read(&entry).await.unwrap(), Content::Damaged));
    assert_eq!(files(&folder, "damaged").len(), 1);
    assert_eq!(drain(&spool).await, [b"two"]);
    spool.close().await;
    assert_eq!(spool.backlog().messages, 0);
}

#[tokio::test]
async fn only_the_owner_can_read_the_spool() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    append(&spool, b"two").await.unwrap();
    spool.done(&spool.take(Lane::Small).await);
    let reason = Reason { status: 400, detail: "no".into(), charset: None, received_at: "then".into(), refused_at: "now".into() };
    spool.refuse(Bytes::from_static(b"refused"), reason).await.unwrap();
    spool.tidy();
    append(&spool, b"three").await.unwrap();
    // All marks are written.
    spool.close().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("spool")), 0o700);
    for name in ["segments", "refused", "damaged"] {
        assert_eq!(mode(&folder.path().join("spool").join(name)), 0o700);
        for file in files(&folder, name) {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
    }
    assert_eq!((files(&folder, "segments").len(), files(&folder, "refused").len()), (2, 2));
}

#[tokio::test]
async fn a_spool_has_one_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    let error = Spool::open(&folder.path().join("spool"), "west", MAX).unwrap_err();
    assert!(matches!(error, SpoolError::Locked(_)), "{error}");
    spool.close().await;
}

#[tokio::test]
async fn a_full_spool_takes_no_more_until_something_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    let message = vec![b'x'; 100_000];
    let mut taken = 0;
    while append(&spool, &message).await.is_ok() {
        taken += 1;
    }
    assert_eq!(taken, MAX / 100_024);
    assert_eq!(append(&spool, &message).await, Err(Unwritten::Full));
    assert!(spool.backlog().bytes <= MAX);
    assert!(files(&folder, "segments").len() > 1, "one file would have to be delivered as a whole");
    for _ in 0..2 {
        spool.done(&spool.take(Lane::Small).await);
    }
    assert_eq!(append(&spool, &message).await, Ok(()));
    // What is refused counts as well.
    let reason = Reason { status: 400, detail: "no".into(), charset: None, received_at: "then".into(), refused_at: "now".into() };
    spool.done(&spool.take(Lane::Small).await);
    spool.refuse(vec![b'y'; 500_000].into(), reason).await.unwrap();
    assert!(spool.backlog().bytes > MAX);
    std::fs::remove_dir_all(folder.path().join("spool/refused")).unwrap();
    spool.tidy();
    spool.close().await;
    assert!(spool.backlog().bytes < MAX, "a person has dealt with what was refused");
}

#[tokio::test]
async fn a_message_is_rejected_while_the_disk_fails_and_taken_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    let segments = folder.path().join("spool/segments");
    std::fs::remove_dir(&segments).unwrap();
    assert_eq!(append(&spool, b"one").await, Err(Unwritten::Disk));
    std::fs::create_dir(&segments).unwrap();
    assert_eq!(append(&spool, b"two").await, Ok(()));
    assert_eq!(drain(&spool).await, [b"two"]);
}

#[tokio::test]
async fn messages_with_a_waiting_sender_alternate_with_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    for message in [b"a", b"b", b"c"] {
        append(&spool, message).await.unwrap();
    }
    let mut waiting = Vec::new();
    for message in [b"1", b"2"] {
        let (waiter, fate) = oneshot::channel();
        spool.append(&label(), message.to_vec(), 7, Some(waiter)).await.await.unwrap().unwrap();
        waiting.push(fate);
    }
    assert_eq!(drain(&spool).await, [b"1", b"a", b"2", b"b", b"c"]);
}

#[tokio::test]
async fn a_message_that_is_given_back_is_taken_again_after_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    append(&spool, b"two").await.unwrap();
    let entry = spool.take(Lane::Small).await;
    spool.put_back(entry);
    assert_eq!(drain(&spool).await, [b"two", b"one"]);
}

#[tokio::test]
async fn the_same_message_is_refused_into_one_file_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    for status in [400, 413] {
        let reason = Reason { status, detail: "why".into(), charset: None, received_at: "then".into(), refused_at: "now".into() };
        spool.refuse(Bytes::from_static(b"message"), reason).await.unwrap();
    }
    let refused = files(&folder, "refused");
    assert_eq!(std::fs::read(&refused[0]).unwrap(), b"message");
    let reason: serde_json::Value = serde_json::from_slice(&std::fs::read(&refused[1]).unwrap()).unwrap();
    assert_eq!(reason, serde_json::json!({ "status": 413, "detail": "why", "receivedAt": "then", "refusedAt": "now" }));
    assert_eq!(refused.len(), 2);
}

#[tokio::test]
async fn a_message_acknowledged_for_one_institute_is_never_delivered_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool");
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    spool.close().await;
    drop(spool);
    let error = Spool::open(&path, "east", MAX).unwrap_err();
    assert!(matches!(error, SpoolError::Owner(_)), "{error}");
    let (spool, _) = open(&folder);
    assert_eq!(drain(&spool).await, [b"one"]);
    spool.close().await;
    drop(spool);
    // With nothing in it the spool is anybody's.
    let (spool, _) = Spool::open(&path, "east", MAX).unwrap();
    append(&spool, b"two").await.unwrap();
    spool.close().await;
    drop(spool);
    assert!(Spool::open(&path, "west", MAX).is_err());
}

#[tokio::test]
async fn a_segment_is_not_removed_while_it_has_unsynced_records() {
    const MIB: usize = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = Spool::open(&folder.path().join("spool"), "west", 64 * MIB as u64).unwrap();
    spool.shared.index().aside_bytes = 54 * MIB as u64;
    append(&spool, &vec![b'0'; 4 * MIB]).await.unwrap();
    let delivered = spool.take(Lane::Small).await;
    // The writer waits for the index with the first of these, and so takes all of them together.
    let index = spool.shared.index();
    let send = |message: Vec<u8>| {
        let (reply, answer) = oneshot::channel();
        spool.shared.room.try_acquire_many(kib(message.len())).unwrap().forget();
        spool.jobs.send(Job::Append { label: label(), message, received_ms: 7, waiter: None, reply }).unwrap();
        answer
    };
    let answers = [send(b"first".to_vec()), send(vec![b'a'; 3 * MIB])];
    spool.done(&delivered);
    let last = send(vec![b'b'; 4 * MIB]);
    drop(index);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    assert_eq!(last.await.unwrap(), Err(Unwritten::Full), "what was delivered shares its file with the others");
    let found: Vec<(usize, Option<u8>)> = drain(&spool).await.iter().map(|it| (it.len(), it.first().copied())).collect();
    assert_eq!(found, [(5, Some(b'f')), (3 * MIB, Some(b'a'))]);
}

#[tokio::test]
async fn large_messages_have_a_queue_of_their_own_and_are_on_disk_as_they_came() {
    const MIB: usize = 1024 * 1024;
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(&folder.path().join("spool"), "west", 1 << 30).unwrap().0;
    let spool = open();
    // Longer than what the writer collects, and longer than a segment file.
    let (medium, large): (Vec<u8>, Vec<u8>) =
        ((0..=250).cycle().take(3 * MIB).collect(), (0..=240).cycle().take(40 * MIB).collect());
    for message in [&b"one"[..], &medium, &large, b"two", &large] {
        append(&spool, message).await.unwrap();
    }
    // The limit is that of a message, whatever a record has beside it.
    for (bytes, lane) in [(domain::MAX_MESSAGE_BYTES, Lane::Small), (domain::MAX_MESSAGE_BYTES + 1, Lane::Large)] {
        assert_eq!(Lane::of(bytes), lane);
    }
    let taken = spool.take(Lane::Large).await;
    assert!(message(&spool, &taken).await == large);
    spool.put_back(taken);
    assert_eq!(
        drain(&spool).await.iter().map(Vec::len).collect::<Vec<_>>(),
        [3, 3 * MIB, 3],
        "none of them waits behind a large one"
    );
    spool.close().await;
    assert_eq!(spool.backlog().messages, 2);
    drop(spool);
    let spool = open();
    assert_eq!(spool.shared.available.available_permits(), 0);
    for _ in 0..2 {
        let taken = spool.take(Lane::Large).await;
        assert!(message(&spool, &taken).await == large);
        spool.done(&taken);
    }
    spool.close().await;
    assert_eq!(files(&folder, "segments"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn foreign_files_in_the_spool_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    append(&spool, b"one").await.unwrap();
    spool.close().await;
    drop(spool);
    std::fs::write(folder.path().join("spool/segments/7.tmp"), "x").unwrap();
    let (spool, recovery) = open(&folder);
    assert_eq!((recovery.messages, drain(&spool).await.len()), (1, 1));
}

#[tokio::test]
async fn another_process_can_see_what_waits_in_a_spool_and_for_which_feed() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    for message in [&b"one"[..], b"two", b"three"] {
        append(&spool, message).await.unwrap();
    }
    spool.done(&spool.take(Lane::Small).await);
    let reason = Reason { status: 400, detail: "no".into(), charset: None, received_at: "then".into(), refused_at: "now".into() };
    spool.refuse(Bytes::from_static(b"refused"), reason).await.unwrap();
    let backlog = spool.backlog();
    assert_eq!(backlog.feeds.keys().map(|name| &**name).collect::<Vec<_>>(), ["adt"]);
    append(&spool, b"four").await.unwrap();
    // All marks are written.
    spool.close().await;
    let contents = inspect(&folder.path().join("spool")).unwrap();
    let waiting: Vec<_> = contents.waiting.iter().map(|it| (it.bytes, it.received_ms, it.origin.feed.as_str())).collect();
    assert_eq!(waiting, [(3, 7, "adt"), (5, 7, "adt"), (4, 7, "adt")]);
    assert_eq!((contents.refused.len(), contents.refused[0].reason.exists(), contents.damaged.len()), (1, true, 0));
    assert!(inspect(&folder.path().join("none")).is_err());
}

#[tokio::test]
async fn submitted_messages_that_are_not_stored_are_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    for message in [&b"one"[..], b"two", b"three"] {
        append(&spool, message).await.unwrap();
    }
    let (one, two) = (spool.take(Lane::Small).await, spool.take(Lane::Small).await);
    spool.submitted(&one);
    spool.submitted(&two);
    let backlog = spool.backlog();
    assert_eq!((backlog.messages, backlog.oldest_ms, backlog.awaited, backlog.oldest_awaited_ms), (1, Some(7), 2, Some(7)));
    spool.done(&one);
    spool.close().await;
    drop(spool);
    let waits_for: Vec<_> = inspect(&folder.path().join("spool")).unwrap().waiting.iter().map(|it| it.waits_for).collect();
    assert_eq!(waits_for, [WaitsFor::Lake, WaitsFor::Api]);

    let (spool, recovery) = open(&folder);
    assert_eq!(recovery, Recovery { messages: 2, damaged: 0 });
    let (two, three) = (spool.take(Lane::Small).await, spool.take(Lane::Small).await);
    assert_eq!((two.is_submitted, message(&spool, &two).await), (true, b"two".to_vec()));
    assert_eq!((three.is_submitted, message(&spool, &three).await), (false, b"three".to_vec()));
}

#[tokio::test]
async fn a_spool_of_the_version_before_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, _) = open(&folder);
    drop(spool);
    let mut header = Header::of(b"", b"old", 5).unwrap();
    header.has_origin = false;
    let mut bytes = Vec::new();
    header.write(&mut bytes);
    assert!(bytes.starts_with(b"SLR1"));
    bytes.extend_from_slice(b"old");
    std::fs::write(folder.path().join("spool/segments/00000000000000007.log"), bytes).unwrap();
    // The lock of the first one is held until its writer has ended.
    let (spool, recovery) = loop {
        match Spool::open(&folder.path().join("spool"), "west", MAX) {
            Ok(opened) => break opened,
            Err(SpoolError::Locked(_)) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(recovery.messages, 1);
    assert_eq!(drain(&spool).await, [b"old"]);
}
