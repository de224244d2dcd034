//! The three forms of a request body, as a [`Body`] of messages.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use domain::Charset;
use hl7::Body;
use mediatype::names::CHARSET;
use mediatype::{MediaType, ReadParams as _};
use runtime::{HttpProblem, header, media};
use serde::Deserialize;
use serde_json::Value;

use crate::coding;
use crate::format::{APPLICATION_JSON, content_type};
use crate::refusal::{Refusal, bad_request};

/// Clients of the AWS sample send padded base64; others leave the padding out.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes the body out of a request.
///
/// 400 for a body that is not base64, names no encoding or is not of its content coding; 413 over `max_bytes` (after base64 and content
/// coding); 415 for another content type or coding.
/// No answer quotes the body.
pub(crate) fn of_request(request: &mut ApiGatewayV2httpRequest, max_bytes: usize) -> Result<Body, Refusal> {
    let content_type = content_type(request);
    let content_type = MediaType::parse(&content_type).ok();
    let codings = header(request, "content-encoding").unwrap_or_default().to_owned();
    let is = |expected: &MediaType<'static>| content_type.as_ref().is_some_and(|it| it.essence() == *expected);
    let body = request.body.take().unwrap_or_default();
    let body = if request.is_base64_encoded {
        Sent::Bytes(BASE64_STANDARD.decode(body).map_err(|_| bad_request("the body is not what API Gateway sends"))?)
    } else {
        Sent::Text(body)
    };
    let too_large = || HttpProblem::new(413, "Content too large", format!("a message may have at most {max_bytes} bytes"));
    let body = if codings.is_empty() {
        body
    } else {
        // In JSON a message is base64, and there may be line ends in it.
        let most_bytes = if is(&APPLICATION_JSON) { 2 * max_bytes } else { max_bytes };
        let decoded = coding::decode(body.into_bytes(), &codings, most_bytes)?;
        if decoded.len() > most_bytes {
            return Err(too_large().into());
        }
        Sent::Bytes(decoded)
    };
    let (bytes, charset) = if is(&APPLICATION_JSON) {
        json_message(body)?
    } else if media::ER7.iter().any(is) {
        let label = content_type.as_ref().and_then(|it| it.get_param(CHARSET)).map(|it| it.unquoted_str().into_owned());
        er7_message(body, label.as_deref())?
    } else {
        let accepted = "expected application/json, application/hl7-v2, x-application/hl7-v2+er7 or text/plain";
        return Err(HttpProblem::new(415, "Unsupported media type", accepted).into());
    };
    if bytes.len() > max_bytes {
        return Err(too_large().into());
    }
    Ok(Body::of(bytes, charset))
}

/// The charset that a request without a body names for bytes that were uploaded before.
///
/// 415 for a content type that is not of ER7; it may be left out.
pub(crate) fn charset_of_upload(request: &ApiGatewayV2httpRequest) -> Result<Option<Charset>, Refusal> {
    let content_type = content_type(request);
    if content_type.is_empty() {
        return Ok(None);
    }
    match MediaType::parse(&content_type) {
        Ok(named) if media::ER7.iter().any(|it| named.essence() == *it) => {
            named.get_param(CHARSET).map(|it| charset(it.unquoted_str().as_ref())).transpose()
        }
        _ => {
            let accepted = "expected application/hl7-v2, x-application/hl7-v2+er7 or text/plain, or no Content-Type";
            Err(HttpProblem::new(415, "Unsupported media type", accepted).into())
        }
    }
}

/// The bytes of the messages, and the charset that the request names.
type Named = (Vec<u8>, Option<Charset>);

/// A body as API Gateway hands it over.
enum Sent {
    /// As sent.
    Bytes(Vec<u8>),
    /// API Gateway has read it as UTF-8: it does so for `text/*` without another charset, and for JSON.
    Text(String),
}

impl Sent {
    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.into_bytes(),
        }
    }
}

/// The shape that clients of the AWS sample send.
#[derive(Deserialize)]
struct JsonBody {
    msg: Option<Value>,
    encoding: Option<Value>,
}

fn json_message(body: Sent) -> Result<Named, Refusal> {
    let body = body.into_bytes();
    // RFC 8259 §8.1: a reader may ignore a byte order mark.
    let body: Result<JsonBody, _> = serde_json::from_slice(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body));
    let body = body.map_err(|_| bad_request("the body is not a JSON object"))?;
    let Some(Value::String(mut msg)) = body.msg else { return Err(bad_request("`msg` must be the message in base64")) };
    let charset = match body.encoding {
        None | Some(Value::Null) => None,
        Some(Value::String(label)) => Some(charset(&label)?),
        Some(_) => return Err(bad_request("`encoding` must be the name of an encoding")),
    };
    // MIME encoders break the lines (RFC 2045 §6.8).
    msg.retain(|character| !character.is_ascii_whitespace());
    let bytes = LENIENT_BASE64.decode(msg).map_err(|_| bad_request("`msg` is not base64"))?;
    Ok((bytes, charset))
}

fn er7_message(body: Sent, label: Option<&str>) -> Result<Named, Refusal> {
    let named = label.map(charset).transpose()?;
    match body {
        Sent::Bytes(bytes) => Ok((bytes, named)),
        // API Gateway has lost the bytes that were not UTF-8: better to refuse the message than to store it with holes.
        Sent::Text(text) if text.contains(char::REPLACEMENT_CHARACTER) => Err(Refusal::NotUtf8),
        // The bytes are as they were sent.
        Sent::Text(text) => Ok((text.into_bytes(), named.or(Some(Charset::UTF_8)))),
    }
}

fn charset(label: &str) -> Result<Charset, Refusal> {
    // The label is the caller's text and may be anything, so it is not repeated.
    Charset::for_label(label).ok_or_else(|| bad_request("the encoding is not known"))
}

#[cfg(test)]
mod tests {
    use domain::Er7;
    use serde_json::json;

    use super::*;

    const ER7: &str = "MSH|^~\\&|A\rPID|1||7||MÜLLER\r";
    const MAX_BYTES: usize = domain::MAX_MESSAGE_BYTES;

    fn post(content_type: &str, body: &str, is_base64_encoded: bool) -> Result<Er7, Refusal> {
        let mut event: Value = serde_json::from_str(include_str!("fixtures/post_er7.json")).unwrap();
        event["headers"]["content-type"] = json!(content_type);
        event["body"] = json!(body);
        event["isBase64Encoded"] = json!(is_base64_encoded);
        let body = of_request(&mut serde_json::from_value(event).unwrap(), MAX_BYTES)?;
        Ok(body.message(1).unwrap().read()?.er7)
    }

    fn post_json(body: &Value) -> Result<Er7, Refusal> {
        post("application/json", &body.to_string(), false)
    }

    fn base64(bytes: impl AsRef<[u8]>) -> String {
        BASE64_STANDARD.encode(bytes)
    }

    #[track_caller]
    fn check(result: Result<Er7, Refusal>, status: u16, detail: &str) {
        let problem = result.expect_err("must be refused").problem();
        assert_eq!((problem.status, problem.detail.contains(detail)), (status, true), "{problem:?}");
        assert!(!problem.detail.contains("SECRET"), "{problem:?}");
    }

    #[test]
    fn all_forms_of_one_message_have_one_id() {
        let latin1: Vec<u8> = ER7.chars().map(|character| character as u8).collect();
        let forms = [
            post_json(&json!({ "msg": base64(ER7), "encoding": "utf-8" })),
            post_json(&json!({ "msg": base64(ER7).trim_end_matches('='), "encoding": null })),
            post_json(&json!({ "msg": base64(ER7).replace("U", "U\r\n") })),
            post_json(&json!({ "msg": base64(&latin1), "encoding": "iso-8859-1" })),
            post("application/hl7-v2", &base64(ER7), true),
            post("X-Application/HL7-v2+ER7; charset=\"ISO-8859-1\"", &base64(&latin1), true),
            post("text/plain; charset=iso-8859-1", &base64(&latin1), true),
            post("text/plain", ER7, false),
        ];
        for form in forms {
            assert_eq!(form.unwrap().as_str(), ER7);
        }
    }

    #[test]
    fn a_json_body_that_is_none_is_refused() {
        check(post("application/json", "SECRET", false), 400, "JSON");
        check(post("application/json", "[]", false), 400, "JSON");
        check(post_json(&json!({})), 400, "`msg`");
        check(post_json(&json!({ "msg": 7 })), 400, "`msg`");
        check(post_json(&json!({ "msg": "SECRET!" })), 400, "not base64");
        check(post_json(&json!({ "msg": base64(ER7), "encoding": "SECRET" })), 400, "not known");
        check(post_json(&json!({ "msg": base64(ER7), "encoding": ["SECRET"] })), 400, "`encoding`");
    }

    #[test]
    fn what_cannot_be_decoded_is_refused_with_its_offset() {
        check(post_json(&json!({ "msg": base64(b"MSH|\xff"), "encoding": "utf-8" })), 400, "byte 4 ");
        check(post("application/hl7-v2; charset=shift_jis", &base64(b"MSH|\x81\x20"), true), 400, "byte 4 ");
        check(post("text/plain", "MSH|\u{fffd}", false), 400, "UTF-8");
        check(post("text/plain; charset=iso-8859-1", "MSH|\u{fffd}", false), 400, "application/hl7-v2");
        check(post("text/plain; charset=foo", ER7, false), 400, "the encoding is not known");
    }

    #[test]
    fn msh_18_says_what_a_message_is_in_where_the_request_does_not() {
        let text = "MSH|^~\\&|A|||||||||||||||8859/1\rPID|1||7||M\u{dc}LLER\r";
        let latin_1 = base64(text.chars().map(|character| character as u8).collect::<Vec<_>>());
        assert_eq!(post("application/hl7-v2", &latin_1, true).unwrap().as_str(), text);
        assert_eq!(post_json(&json!({ "msg": latin_1 })).unwrap().as_str(), text);
        assert_eq!(post_json(&json!({ "msg": base64(text), "encoding": "utf-8" })).unwrap().as_str(), text);
        check(post_json(&json!({ "msg": latin_1, "encoding": "utf-8" })), 400, "not valid UTF-8: byte 43 ");
        check(post("application/hl7-v2; charset=utf-8", &latin_1, true), 400, "not valid UTF-8: byte 43 ");
        let unknown = base64(b"MSH|^~\\&|A|||||||||||||||KLINGON\rPID|\xdc\r");
        check(post("application/hl7-v2", &unknown, true), 400, "MSH-18 names no character set");
        let wide: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(post("application/hl7-v2", &base64(wide), true).unwrap().as_str(), text);
    }

    #[test]
    fn a_charset_that_contradicts_the_bytes_is_refused() {
        let wide: Vec<u8> = ER7.encode_utf16().flat_map(u16::to_le_bytes).collect();
        check(post("application/hl7-v2; charset=utf-16le", &base64(ER7), true), 400, "not valid UTF-16LE: byte 0 ");
        check(post("application/hl7-v2; charset=utf-8", &base64(&wide), true), 400, "not valid UTF-8: byte 0 ");
        check(post_json(&json!({ "msg": base64(&wide), "encoding": "iso-8859-1" })), 400, "not valid windows-1252: byte 0 ");
        assert_eq!(post("application/hl7-v2; charset=utf-16", &base64(&wide), true).unwrap().as_str(), ER7);
    }

    #[test]
    fn empty_parameters_and_a_byte_order_mark_before_json_are_legal() {
        assert_eq!(post("application/hl7-v2;;charset=", &base64(ER7), true).unwrap().as_str(), ER7);
        assert_eq!(post("text/plain;; charset=utf-8;", &base64(ER7), true).unwrap().as_str(), ER7);
        let json = format!("\u{feff}{}", json!({ "msg": base64(ER7) }));
        assert_eq!(post("application/json;;", &json, false).unwrap().as_str(), ER7);
        assert_eq!(post("application/json", &base64(json), true).unwrap().as_str(), ER7);
    }

    #[test]
    fn an_empty_message_is_refused() {
        check(post_json(&json!({ "msg": "" })), 400, "empty");
        check(post("application/hl7-v2", &base64("\u{b}\r\n\u{1c}\r"), true), 400, "empty");
    }

    #[test]
    fn a_message_of_more_than_the_limit_is_refused() {
        let most = "x".repeat(MAX_BYTES);
        assert!(post("application/hl7-v2", &base64(&most), true).is_ok());
        assert!(post("text/plain", &most, false).is_ok());
        assert!(post_json(&json!({ "msg": base64(&most) })).is_ok());
        let more = format!("{most}x");
        check(post("application/hl7-v2", &base64(&more), true), 413, "4194304 bytes");
        check(post("text/plain", &more, false), 413, "4194304 bytes");
        check(post_json(&json!({ "msg": base64(&more) })), 413, "4194304 bytes");
    }

    #[test]
    fn another_content_type_is_refused() {
        for content_type in ["", "application/xml", "application/octet-stream", "multipart/form-data"] {
            check(post(content_type, &base64(ER7), true), 415, "expected");
        }
    }
}
