//! The hybrid lower layer protocol (HLLP, HL7 2.3 Appendix C §C.4): MLLP's frame, in which a block type with the version precedes
//! the message, and its size and a checksum follow it.
//!
//! ```text
//! VT D23 CR | message, which ends with CR | five digits of size | three digits of checksum | FS CR
//! ```
//!
//! Senders disagree on which bytes they count, so size and checksum fit if any reading of them does. If none does, something
//! between sender and gateway, such as a converter of a serial line, has changed the message. The gateway tells the operator and
//! takes the message, because a device that is refused drops it.

const CARRIAGE_RETURN: u8 = b'\r';
/// `Dvv` and CR.
pub(crate) const PREFIX_BYTES: usize = 4;
const TRAILER_BYTES: usize = 8;
const SIZE_DIGITS: usize = 5;
const VT: u8 = 0x0b;
/// The version of HL7 for which the protocol was specified.
const VERSION: &[u8] = b"23";

/// Whether a frame's content begins with the type of a data block and a version.
pub(crate) fn is_prefix(content: &[u8]) -> bool {
    matches!(content, [b'D', first, second, CARRIAGE_RETURN, ..] if first.is_ascii_digit() && second.is_ascii_digit())
}

/// Whether size and checksum of a frame in the hybrid protocol are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hybrid {
    /// Size and checksum fit, or are absent.
    Fits,
    /// Size or checksum do not fit the bytes.
    Mismatch,
}

/// Removes the hybrid protocol from a frame's content, and says whether it fits; `None` if the frame does not use it.
pub(crate) fn strip(content: &mut Vec<u8>) -> Option<Hybrid> {
    if !is_prefix(content) {
        return None;
    }
    let block: Vec<u8> = content.drain(..PREFIX_BYTES).collect();
    let message = content.len().saturating_sub(TRAILER_BYTES);
    let is_trailer = content.get(message..).is_some_and(|it| it.len() == TRAILER_BYTES && it.iter().all(u8::is_ascii_digit));
    let ends = message.checked_sub(1).and_then(|at| content.get(at)) == Some(&CARRIAGE_RETURN);
    if !is_trailer || !ends {
        return Some(Hybrid::Fits);
    }
    let trailer = content.split_off(message);
    let number = |digits: &[u8]| digits.iter().fold(0_usize, |number, digit| number * 10 + usize::from(digit - b'0'));
    let (size, checksum) = trailer.split_at(SIZE_DIGITS);
    let fits = is_size(number(size), message) && is_checksum(number(checksum), &block, content);
    Some(if fits { Hybrid::Fits } else { Hybrid::Mismatch })
}

/// Whether a size is that of a message, with or without the bytes before it (VT and four bytes) and after it (eight digits, FS
/// and CR).
fn is_size(size: usize, message: usize) -> bool {
    let [before, behind] = [[0, PREFIX_BYTES, PREFIX_BYTES + 1], [0, TRAILER_BYTES, TRAILER_BYTES + 2]];
    // The field has only five digits.
    before.iter().any(|before| behind.iter().any(|behind| (message + before + behind) % 100_000 == size)) || size == 99_999
}

/// Whether a checksum is the exclusive or of a message, with or without the bytes before it. 999 means that there is none.
fn is_checksum(checksum: usize, block: &[u8], message: &[u8]) -> bool {
    let sum = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum ^ byte);
    let of_message = sum(message);
    let of_block = of_message ^ sum(block);
    checksum == 999 || [of_message, of_block, of_block ^ VT].iter().any(|sum| usize::from(*sum) == checksum)
}

/// The content of a frame that answers a peer with the hybrid protocol. The size counts the message and the five bytes before it,
/// from VT on. The checksum is the exclusive or of all of them.
pub(crate) fn wrapped(message: &[u8]) -> Vec<u8> {
    let mut content = [b"D", VERSION, &[CARRIAGE_RETURN], message].concat();
    let size = (1 + content.len()).min(99_999);
    let checksum = content.iter().fold(VT, |sum, byte| sum ^ byte);
    content.extend_from_slice(format!("{size:05}{checksum:03}").as_bytes());
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(content: &[u8]) -> (Option<Hybrid>, Vec<u8>) {
        let mut content = content.to_vec();
        (strip(&mut content), content)
    }

    #[test]
    fn a_block_of_the_hybrid_protocol_is_its_message() {
        assert_eq!(stripped(b"D23\rMSH|a\r00011999"), (Some(Hybrid::Fits), b"MSH|a\r".to_vec()));
        // Without size and checksum, and with digits that belong to the message.
        assert_eq!(stripped(b"D23\rMSH|a\r"), (Some(Hybrid::Fits), b"MSH|a\r".to_vec()));
        assert_eq!(stripped(b"D23\rMSH|00011123"), (Some(Hybrid::Fits), b"MSH|00011123".to_vec()));
        assert_eq!(stripped(b"MSH|a\r00011123"), (None, b"MSH|a\r00011123".to_vec()));
        assert_eq!(stripped(b"D23"), (None, b"D23".to_vec()));
        assert_eq!(stripped(b"D23\r"), (Some(Hybrid::Fits), vec![]));
    }

    #[test]
    fn a_size_or_a_checksum_of_other_bytes_is_noticed() {
        // Six bytes; their exclusive or, with the four before them, and with VT.
        let message = b"MSH|a\r";
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum ^ byte);
        let sums = [sum(message), sum(b"D23\rMSH|a\r"), sum(b"\x0bD23\rMSH|a\r")];
        let found = |size: usize, checksum: u16| {
            let content = [&b"D23\r"[..], message, format!("{size:05}{checksum:03}").as_bytes()].concat();
            stripped(&content).0
        };
        for size in [6, 10, 11, 14, 16, 18, 19, 20, 21] {
            for sum in sums.map(u16::from).into_iter().chain([999]) {
                assert_eq!(found(size, sum), Some(Hybrid::Fits), "{size} {sum}");
            }
            let wrong = (0..256).filter(|it| !sums.contains(&u8::try_from(*it).unwrap()));
            assert!(wrong.into_iter().all(|sum| found(size, sum) == Some(Hybrid::Mismatch)), "{size}");
        }
        assert_eq!(
            (found(5, 999), found(7, 999), found(111, sums[0].into())),
            (Some(Hybrid::Mismatch), Some(Hybrid::Mismatch), Some(Hybrid::Mismatch))
        );
    }

    #[test]
    fn an_answer_in_a_block_has_its_size_and_checksum() {
        let content = wrapped(b"MSA|AA|1\r");
        // VT D 2 3 CR and nine bytes; the exclusive or of all of them.
        let checksum = b"\x0bD23\rMSA|AA|1\r".iter().fold(0_u8, |sum, byte| sum ^ byte);
        assert_eq!(content, [&b"D23\rMSA|AA|1\r00014"[..], format!("{checksum:03}").as_bytes()].concat());
        assert_eq!(stripped(&content), (Some(Hybrid::Fits), b"MSA|AA|1\r".to_vec()));
    }
}
