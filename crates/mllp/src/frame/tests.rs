use proptest::prelude::*;

use super::*;

/// All frames of some bytes that come in pieces of one size.
fn frames(limit: usize, bytes: &[u8], piece: usize) -> (Vec<Frame>, Frames) {
    let mut reader = Frames::new(limit);
    let mut found = Vec::new();
    for mut piece in bytes.chunks(piece) {
        while let Some(frame) = reader.next(&mut piece) {
            found.push(frame);
        }
    }
    (found, reader)
}

fn whole(messages: &[&[u8]]) -> Vec<Frame> {
    messages.iter().map(|message| Frame::Whole(message.to_vec())).collect()
}

#[test]
fn frames_are_read_in_pieces_of_any_size() {
    let cases: [(&[u8], &[&[u8]]); 20] = [
        (b"\x0bMSH|a\r\x1c\r", &[b"MSH|a\r"]),
        (b"\x0bone\x1c\r\x0btwo\x1c\r", &[b"one", b"two"]),
        (b"junk\r\n\x0bone\x1c\r\n\n \0\x0btwo\x1c\r\n", &[b"one", b"two"]),
        (b"\x0b\x1c\r\x0bx\x1c\r", &[b"", b"x"]),
        // Without the CR.
        (b"\x0bone\x1c\x0bMSH|^~\\&|2\x1c\r", &[b"one", b"MSH|^~\\&|2"]),
        (b"\x0bone\x1c\n\x0btwo\x1c\n", &[b"one", b"two"]),
        // Content.
        (b"\x0ba\x1cb\x1c\x1c\r", &[b"a\x1cb\x1c"]),
        (b"\x0ba\x0bb\0\x0bMS\x0bMSX\x0bFH\x1c\r", &[b"a\x0bb\0\x0bMS\x0bMSX\x0bFH"]),
        // A peer that starts over.
        (b"\x0bMSH|lost\x0bMSH|^~\\&|kept\x1c\r", &[b"MSH|^~\\&|kept"]),
        (b"\x0b\x0bMSH#^~\\&#kept\x1c\r", &[b"MSH#^~\\&#kept"]),
        (b"\x0bMSH|lost\x0bD23\rMSH|^~\\&|kept\r00011123\x1c\r", &[b"D23\rMSH|^~\\&|kept\r00011123"]),
        // A soft line break of Word, and names of headers in a text.
        (
            b"\x0bMSH|^~\\&|a\x0bMSH text\x0bMSH|text\x0bBHS, too\x0bMSH.\x1c\r",
            &[b"MSH|^~\\&|a\x0bMSH text\x0bMSH|text\x0bBHS, too\x0bMSH."],
        ),
        (
            b"\x0bMSH|^~\\&|a\x0bMSH: 12: high\x0bMSH|12|\x0bMSH-(a)-b\x1c\r",
            &[b"MSH|^~\\&|a\x0bMSH: 12: high\x0bMSH|12|\x0bMSH-(a)-b"],
        ),
        (b"\x0bMSH|^~\\&|a\x1c\x0bb\x1c\r", &[b"MSH|^~\\&|a\x1c\x0bb"]),
        // In UTF-16.
        (b"\x0bone\x1c\x0b\xff\xfeM\0S\0\r\0\x1c\r", &[b"one", b"\xff\xfeM\0S\0\r\0"]),
        (b"\x0b\0M\0S\0\r\x1c\r\x0btwo\x1c\r", &[b"\0M\0S\0\r", b"two"]),
        // Letters with the bytes of FS, CR, LF and VT: U+0D1C, U+4E1C and U+0B1C, in the one order and the other.
        (b"\x0bM\0S\0\x1c\r\x1cN\x1c\x0bM\0\r\0\x1c\r", &[b"M\0S\0\x1c\r\x1cN\x1c\x0bM\0\r\0"]),
        (b"\x0b\0M\0S\x20\x1c\r\x15\x1c\r\0x\0\r\x1c\r", &[b"\0M\0S\x20\x1c\r\x15\x1c\r\0x\0\r"]),
        // Without the CR of the last segment, the next frame shows that it was one.
        (b"\x0bM\0S\0x\0\x1c\r\x0bMSH|^~\\&|2\x1c\r", &[b"M\0S\0x\0", b"MSH|^~\\&|2"]),
        (b"no frame at all", &[]),
    ];
    for (bytes, expected) in cases {
        for piece in 1..=bytes.len() {
            assert_eq!(frames(100, bytes, piece).0, whole(expected), "{bytes:?} in pieces of {piece}");
        }
    }
}

#[test]
fn an_end_block_without_cr_ends_a_frame_when_the_peer_is_silent() {
    let (found, mut reader) = frames(100, b"\x0bone\x1c", 3);
    assert_eq!((found, reader.silence()), (vec![], Some(LONG_SILENCE)));
    assert_eq!(reader.end_if_silent(), Some(Frame::Whole(b"one".to_vec())));
    assert_eq!(reader.end_if_silent(), None);
    assert!(!reader.is_within());
    let (found, mut reader) = frames(100, b"\x0bone", 3);
    assert_eq!((found, reader.silence(), reader.end_if_silent(), reader.is_within()), (vec![], None, None, true));
    // Behind the end of a segment there is less doubt, and within a letter of UTF-16 there is no end.
    for (bytes, silence, ends) in [
        (&b"\x0bone\r\x1c"[..], Some(SILENCE), true),
        (b"\x0bM\0S\0\r\0\x1c", Some(SILENCE), true),
        (b"\x0bM\0S\0x\0\x1c\r", Some(LONG_SILENCE), true),
        (b"\x0bM\0S\0x\0\x1c", None, false),
        (b"\x0b\0M\0S\x20\x1c", None, false),
    ] {
        let (_, mut reader) = frames(100, bytes, 3);
        assert_eq!((reader.silence(), reader.end_if_silent().is_some()), (silence, ends), "{bytes:?}");
    }
}

#[test]
fn a_frame_that_is_too_long_is_read_to_its_end_and_not_kept() {
    let bytes = [&framed(&[b'x'; 10_000])[..], &framed(b"short")].concat();
    for piece in [1, 7, 4_000, 20_000] {
        let (found, reader) = frames(9_999, &bytes, piece);
        assert_eq!(found, [Frame::TooLong { head: vec![b'x'; HEAD_BYTES] }, Frame::Whole(b"short".to_vec())], "{piece}");
        assert_eq!(reader.content.capacity(), 0);
        assert_eq!(frames(10_000, &bytes, piece).0, whole(&[&[b'x'; 10_000], b"short"]));
    }
    let mut reader = Frames::new(100_000);
    reader.next(&mut &b"\x0b"[..]);
    for _ in 0..1_000 {
        assert_eq!(reader.next(&mut &[b'x'; 1_000][..]), None);
        assert!(reader.content.capacity() <= 256 * 1024);
    }
}

#[test]
fn a_large_frame_without_room_is_passed_over_and_the_next_one_is_read() {
    const MIB: usize = 1024 * 1024;
    let room = Arc::new(Room::new(0, 8 * MIB));
    let reader = || Frames::with_room(8 * MIB, Arc::clone(&room));
    let (mut one, mut other) = (reader(), reader());
    let read = |frames: &mut Frames, bytes: &[u8]| frames.next(&mut &*bytes);
    let large = framed(&vec![b'x'; 5 * MIB]);
    let (begun, rest) = large.split_at(large.len() - 9);
    assert_eq!(read(&mut one, begun), None);
    assert!((8 * MIB..9 * MIB).contains(&one.content.capacity()), "{}", one.content.capacity());
    assert_eq!(read(&mut other, &large), Some(Frame::NoRoom { head: vec![b'x'; HEAD_BYTES] }));
    assert_eq!((other.content.capacity(), read(&mut other, &framed(b"small"))), (0, Some(Frame::Whole(b"small".to_vec()))));
    // Sending it again would not help.
    let too_long = framed(&vec![b'x'; 9 * MIB]);
    assert_eq!(read(&mut other, &too_long), Some(Frame::TooLong { head: vec![b'x'; HEAD_BYTES] }));

    assert!(matches!(read(&mut one, rest), Some(Frame::Whole(message)) if message.len() == 5 * MIB));
    let share = one.take_share();
    assert!(matches!(read(&mut other, &large), Some(Frame::NoRoom { .. })), "the first one is still in memory");
    drop(share);
    assert!(matches!(read(&mut other, &large), Some(Frame::Whole(_))));
    drop(other.take_share());
    // A frame that is given up, or whose connection ends, gives its room back.
    assert_eq!((read(&mut one, begun), read(&mut one, b"\x0bMSH|^~\\&|")), (None, None));
    assert!(one.content.capacity() < MIB, "{}", one.content.capacity());
    assert!(matches!(read(&mut other, &large), Some(Frame::Whole(_))));
    drop(other.take_share());
    assert_eq!(read(&mut other, begun), None);
    drop(other);
    assert!(matches!(read(&mut reader(), &large), Some(Frame::Whole(_))));
}

#[test]
fn stray_bytes_and_frames_that_were_given_up_are_counted() {
    let (_, mut reader) = frames(100, b"abc\x0bMSH|1\x0bMSH|^~\\&|2\x1c\r\0\x02\r\nhello world", 4);
    assert_eq!((reader.take_cut(), reader.take_cut(), reader.stray_bytes()), (1, 0, 10), "keep-alive bytes do not count");
    // A doubled start block has no frame before it.
    let (_, mut reader) = frames(100, b"\x0b\x0bMSH|^~\\&|2\x1c\r", 4);
    assert_eq!(reader.take_cut(), 0);
}

#[test]
fn nothing_is_read_behind_the_first_bytes_of_another_protocol() {
    let request = b"\r\nPOST /x HTTP/1.1\r\nHost: localhost:2575\r\n\r\n\x0bMSH|^~\\&|a\x1c\r";
    for piece in 1..request.len() {
        let (found, mut reader) = frames(100, request, piece);
        assert_eq!((found, reader.take_stray()), (vec![], Some(Stray::Protocol("HTTP"))), "{piece}");
    }
}

#[test]
fn an_unframed_message_and_astm_are_reported_once_and_later_frames_are_read() {
    for (bytes, stray) in [(&b"\0MSH|^~\\&|1\rPID|1\r\x0bx\x1c\r"[..], Stray::Unframed), (b"\x05\x05\x0bx\x1c\r", Stray::Astm)] {
        let mut reader = Frames::new(100);
        let mut input = bytes;
        assert_eq!(reader.next(&mut input), Some(Frame::Whole(b"x".to_vec())));
        assert_eq!((reader.take_stray(), reader.take_stray()), (Some(stray), None));
    }
}

#[test]
fn debug_shows_no_content() {
    assert_eq!(format!("{:?}", Frame::Whole(b"secret".to_vec())), "Whole(6 bytes)");
}

proptest! {
    #[test]
    fn any_message_comes_through_in_pieces_of_any_size(
        // Neither FS nor VT: those are in the cases above.
        messages in prop::collection::vec(prop::collection::vec((0..=255_u8).prop_filter("content", |it| ![0x0b, 0x1c].contains(it)), 0..50), 0..5),
        piece in 1..40_usize,
    ) {
        // Nor UTF-16, where FS and CR may be a letter.
        prop_assume!(messages.iter().all(|message| Charset::utf_16_of(message).is_none()));
        let bytes: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        let expected: Vec<Frame> = messages.into_iter().map(Frame::Whole).collect();
        prop_assert_eq!(frames(50, &bytes, piece).0, expected);
    }

    #[test]
    fn a_frame_with_one_message_is_one_frame_whatever_its_text_holds(
        text in prop::collection::vec(prop::sample::select(vec![&b"\x0b"[..], b"\x1c", b"MSH", b"MSH text", b"BHS|", b"D23\r", b"x", b" ", b"|", b"^~\\&", b"\0", b"\x05", b"GET / HTTP/1.1"]), 0..20),
        piece in 1..20_usize,
    ) {
        let message = [&b"MSH|^~\\&|A|"[..], &text.concat(), b"x"].concat();
        // Only these two mean something to MLLP.
        let is_ambiguous = [&b"\x1c\r"[..], b"\x0bMSH|^~\\&|", b"\x0bMSH^~\\&^", b"\x0bD23\rMSH|^~\\&|", b"\x0bD23\rMSH^~\\&^", b"\x0bBHS|^~\\&|", b"\x0bD23\rBHS|^~\\&|"].iter().any(|it| memchr::memmem::find(&message, it).is_some());
        prop_assume!(!is_ambiguous);
        prop_assert_eq!(frames(1000, &framed(&message), piece).0, vec![Frame::Whole(message)]);
    }

    #[test]
    fn the_size_of_the_pieces_does_not_matter(bytes in prop::collection::vec(prop::sample::select(b"\x0b\x1c\r\nMSHFB|^~D23\xff\xfe".to_vec()), 0..60), piece in 1..20_usize, limit in 0..20_usize) {
        let (whole, one) = frames(limit, &bytes, usize::MAX);
        let (pieces, many) = frames(limit, &bytes, piece);
        prop_assert_eq!(whole, pieces);
        prop_assert_eq!(one.place, many.place);
        prop_assert_eq!(one.content, many.content);
    }
}
