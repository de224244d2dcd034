//! A rendition as the lake keeps it: compressed with gzip (RFC 1952).
//!
//! Names and positions are six tenths of a rendition, and most of them repeat, so gzip leaves less than a tenth of it. A
//! rendition without names would have 0.63 of the size, with positions as keys 0.25, and every table, query and reader would need
//! to know both shapes (`docs/BENCHMARKS.md`).

use std::io::{self, BufWriter, Read, Write};

use domain::Er7;
use flate2::Compression;
use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::delimiters::Delimiters;
use crate::dictionary::Schema;
use crate::rendition::{Origin, write_json_of};

/// The level that leaves less than a tenth with the least work. More work costs more than the bytes that it saves
/// (`docs/BENCHMARKS.md`).
const LEVEL: Compression = Compression::new(4);

/// The writer gives a few bytes at a time, and a call of the compressor costs more than copying them.
const BUFFER_BYTES: usize = 32 * 1024;

/// The most bytes of a stored rendition, decompressed. Any message of 4 MiB has a smaller one: at most 56 bytes for each byte of
/// ER7 (`tests/hostile`).
pub const MAX_JSON_BYTES: usize = 256 * 1024 * 1024;

/// The rendition with its origin and a line end, compressed: the same bytes for the same message, origin and schema. Keeps the
/// result, a buffer and the compressor's window in memory, and never the whole rendition.
///
/// # Errors
/// [`io::ErrorKind::FileTooLarge`] for more than [`MAX_JSON_BYTES`].
pub fn compressed_json(
    message: &Er7,
    delimiters: &Delimiters,
    origin: &Origin<'_>,
    schema: &'static Schema,
) -> io::Result<Vec<u8>> {
    let mut out =
        BufWriter::with_capacity(BUFFER_BYTES, Bounded { out: GzEncoder::new(Vec::new(), LEVEL), left: MAX_JSON_BYTES });
    write_json_of(message, delimiters, schema, Some(origin), &mut out)?;
    out.write_all(b"\n")?;
    out.into_inner().map_err(io::IntoInnerError::into_error)?.out.finish()
}

/// Takes `left` bytes and no more.
struct Bounded<W> {
    out: W,
    left: usize,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Why compressed bytes give no rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDecompressed {
    /// They are not gzip, are cut short, or have a wrong checksum.
    #[error("not gzip, or damaged")]
    Damaged,
    /// They decompress to more bytes than allowed.
    #[error("larger than allowed when decompressed")]
    TooLarge,
}

/// Decompresses gzip of one or several members, up to `most_bytes`.
///
/// # Errors
/// [`NotDecompressed`].
pub fn decompressed(bytes: &[u8], most_bytes: usize) -> Result<Vec<u8>, NotDecompressed> {
    let mut found = Vec::new();
    let most = most_bytes as u64 + 1;
    MultiGzDecoder::new(bytes).take(most).read_to_end(&mut found).map_err(|_| NotDecompressed::Damaged)?;
    if found.len() > most_bytes { Err(NotDecompressed::TooLarge) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use domain::{MessageId, Source, Timestamp};

    use super::*;
    use crate::{read_json, write_json};

    const TEXT: &str = "MSH|^~\\&|A|B|||||ADT^A01|7|P|2.5.1\rPID|1||4711^^^HIS&1.2||DOE^\\.br\\\r";

    fn compressed() -> (Er7, Vec<u8>) {
        let message = Er7::canonical(TEXT).unwrap();
        let (message_id, source): (MessageId, Source) = (message.message_id(), "west".parse().unwrap());
        let received_at = Timestamp::from_millis(1_795_245_667_120).unwrap();
        let origin = Origin { message_id: &message_id, source: &source, received_at };
        let compressed = compressed_json(&message, &Delimiters::of(&message).unwrap(), &origin, Schema::standard()).unwrap();
        (message, compressed)
    }

    #[test]
    fn a_stored_rendition_says_which_message_it_is_and_comes_back() {
        let (message, bytes) = compressed();
        let json = decompressed(&bytes, MAX_JSON_BYTES).unwrap();
        assert_eq!(read_json(&json), Ok(message.clone()));
        let mut plain = Vec::new();
        write_json(&message, &Delimiters::of(&message).unwrap(), &mut plain).unwrap();
        let origin = format!(
            r#"{{"version":2,"origin":{{"messageId":"{}","source":"west","receivedAt":"2026-11-21T07:21:07.120Z"}},"#,
            message.message_id()
        );
        let text = String::from_utf8(json).unwrap();
        assert_eq!(text.replace(&origin, r#"{"version":2,"#), format!("{}\n", String::from_utf8(plain).unwrap()));
        assert!(text.starts_with(&origin) && text.lines().count() == 1);
        assert_eq!(compressed().1, bytes, "a repeated step writes the same bytes");
    }

    #[test]
    fn what_is_damaged_or_too_large_is_not_decompressed() {
        let (_, bytes) = compressed();
        let json = decompressed(&bytes, MAX_JSON_BYTES).unwrap();
        assert_eq!(decompressed(&bytes, json.len()).as_deref(), Ok(json.as_slice()));
        assert_eq!(decompressed(&bytes, json.len() - 1), Err(NotDecompressed::TooLarge));
        assert_eq!(decompressed(&[bytes.as_slice(), &bytes].concat(), 2 * json.len()).map(|it| it.len()), Ok(2 * json.len()));
        let (head, tail) = bytes.split_at(bytes.len() - 8);
        let spoiled = [head, &[tail[0] ^ 1], &tail[1..]].concat();
        for damaged in [&bytes[..bytes.len() - 1], head, &json, b"", &spoiled, &[&bytes, &b"x"[..]].concat()] {
            assert_eq!(decompressed(damaged, MAX_JSON_BYTES), Err(NotDecompressed::Damaged));
        }
    }
}
