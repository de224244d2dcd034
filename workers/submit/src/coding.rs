//! Content codings of a request body (RFC 9110 §8.4): gzip and zstd.

use std::io::Read;

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use crate::refusal::{Refusal, bad_request};

/// The largest window of a zstd decoder: RFC 9659 §3 allows no more in HTTP.
const MOST_WINDOW_BYTES: u64 = 8 << 20;

/// The most codings of one body, one in another.
const MOST_CODINGS: usize = 2;

/// Decodes a body, and reads at most one byte more than `most_bytes`, which shows the caller that there is more. `codings` is
/// `Content-Encoding`, which names the codings in the order in which they were applied.
///
/// 400 for bytes that are not of the coding, 415 for another coding.
pub(crate) fn decode(body: Vec<u8>, codings: &str, most_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let codings: Vec<&str> =
        codings.split(',').map(str::trim).filter(|it| !it.is_empty() && !it.eq_ignore_ascii_case("identity")).collect();
    if codings.len() > MOST_CODINGS {
        return Err(Refusal::UnknownCoding);
    }
    codings.into_iter().rev().try_fold(body, |body, coding| {
        let is = |names: &[&str]| names.iter().any(|it| coding.eq_ignore_ascii_case(it));
        if is(&["gzip", "x-gzip"]) {
            read(MultiGzDecoder::new(body.as_slice()), most_bytes)
        } else if is(&["zstd"]) {
            frames_of_zstd(&body, most_bytes)
        } else {
            Err(Refusal::UnknownCoding)
        }
    })
}

fn read(decoder: impl Read, most_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut decoded = Vec::new();
    decoder.take(most_bytes as u64 + 1).read_to_end(&mut decoded).map_err(|_| not_decodable())?;
    Ok(decoded)
}

/// All frames of a body (RFC 8878 §3.1): encoders that work in parallel, and files that were put behind each other, have several.
/// The decoder reads one frame, does not compare its checksum, and does not pass over skippable frames.
fn frames_of_zstd(mut body: &[u8], most_bytes: usize) -> Result<Vec<u8>, Refusal> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MOST_WINDOW_BYTES);
    let mut decoded = Vec::new();
    loop {
        match StreamingDecoder::new_with_decoder(&mut body, &mut decoder) {
            Ok(frame) => {
                let most = (most_bytes + 1).saturating_sub(decoded.len());
                frame.take(most as u64).read_to_end(&mut decoded).map_err(|_| not_decodable())?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                body = usize::try_from(length).ok().and_then(|length| body.get(length..)).ok_or_else(not_decodable)?;
            }
            Err(_) => return Err(not_decodable()),
        }
        if decoded.len() > most_bytes {
            return Ok(decoded);
        }
        if decoder.get_checksum_from_data().is_some_and(|sent| decoder.get_calculated_checksum() != Some(sent)) {
            return Err(not_decodable());
        }
        if body.is_empty() {
            return Ok(decoded);
        }
    }
}

fn not_decodable() -> Refusal {
    bad_request("the body is not of its Content-Encoding")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    #[test]
    fn gzip_and_zstd_are_decoded_in_any_nesting() {
        let text = b"MSH|^~\\&|A\r";
        for (codings, body) in [
            ("", text.to_vec()),
            ("identity", text.to_vec()),
            ("gzip", gzip(text)),
            ("X-GZIP", gzip(text)),
            ("zstd", zstd(text)),
            ("zstd, gzip", gzip(&zstd(text))),
            ("gzip", [gzip(b"MSH|^~"), gzip(b"\\&|A\r")].concat()),
            ("zstd", [zstd(b"MSH|^~"), zstd(b"\\&|A\r")].concat()),
            (
                "zstd",
                [b"\x50\x2a\x4d\x18\x02\0\0\0xx", &zstd(b"MSH|^~")[..], b"\x5f\x2a\x4d\x18\0\0\0\0", &zstd(b"\\&|A\r")].concat(),
            ),
        ] {
            assert_eq!(decode(body, codings, 100).unwrap(), text, "{codings:?}");
        }
    }

    #[test]
    fn no_more_is_decoded_than_is_needed_to_see_that_it_is_too_much() {
        let much = vec![b'x'; 64 << 20];
        for (coding, body) in [("gzip", gzip(&much)), ("zstd", zstd(&much))] {
            assert!(body.len() < 1 << 20, "{coding}: {}", body.len());
            assert_eq!(decode(body, coding, 1000).unwrap().len(), 1001, "{coding}");
        }
    }

    fn with_another_checksum(mut frame: Vec<u8>) -> Vec<u8> {
        // The last four bytes of a frame of this encoder.
        *frame.last_mut().unwrap() ^= 1;
        frame
    }

    #[test]
    fn what_is_not_of_its_coding_or_of_another_coding_is_refused() {
        for (codings, body, status) in [
            ("gzip", b"MSH|".to_vec(), 400),
            ("zstd", b"MSH|".to_vec(), 400),
            ("gzip", gzip(b"MSH|").split_last().unwrap().1.to_vec(), 400),
            ("gzip", [gzip(b"MSH|"), b"x".to_vec()].concat(), 400),
            ("zstd", [zstd(b"MSH|"), b"x".to_vec()].concat(), 400),
            ("zstd", [zstd(b"MSH|"), zstd(b"x").split_last().unwrap().1.to_vec()].concat(), 400),
            ("zstd", [&zstd(b"MSH|")[..], b"\x50\x2a\x4d\x18\x02\0\0\0x"].concat(), 400),
            ("zstd", with_another_checksum(zstd(b"MSH|")), 400),
            ("br", b"MSH|".to_vec(), 415),
            ("gzip, gzip, gzip", b"MSH|".to_vec(), 415),
        ] {
            assert_eq!(decode(body, codings, 100).unwrap_err().problem().status, status, "{codings}");
        }
    }
}
