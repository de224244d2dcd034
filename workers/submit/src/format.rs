//! The form in which a caller wants the answer: JSON or an HL7 acknowledgment.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::Charset;
use mediatype::names::{APPLICATION, CHARSET, JSON};
use mediatype::{MediaType, ReadParams as _};
use runtime::{header, media};

pub(crate) static APPLICATION_JSON: MediaType<'static> = MediaType::new(APPLICATION, JSON);

/// The form of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// JSON, and problem documents.
    Json,
    /// An acknowledgment.
    Ack {
        /// One of [`media::ER7`]: the request's own, unless `Accept` asks for another.
        content_type: String,
        /// The character set that `Accept` asks for. `Accept-Charset` does not count: clients send it without meaning it, and RFC
        /// 9110 §12.5.2 has given it up.
        charset: Option<Charset>,
    },
}

/// The content type of a request, without empty parameters: RFC 9110 §5.6.6 allows `text/plain;;charset=utf-8`, and clients send
/// `text/plain; charset=`, `text/plain; charset` and `text/plain; charset = utf-8`. Empty if there is none.
pub(crate) fn content_type(request: &ApiGatewayV2httpRequest) -> String {
    let mut in_quotes = false;
    let ends_parameter = |character: char| {
        in_quotes ^= character == '"';
        character == ';' && !in_quotes
    };
    let mut parts = header(request, "content-type").unwrap_or_default().split(ends_parameter);
    let mut content_type = parts.next().unwrap_or_default().trim().to_owned();
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        if !value.trim().is_empty() {
            content_type.push_str(&format!("; {}={}", name.trim(), value.trim()));
        }
    }
    content_type
}

impl Format {
    /// The form that the `Accept` header prefers. If it names none, or none that exists, an ER7 body is answered in its own
    /// content type, and any other in JSON.
    pub(crate) fn of(request: &ApiGatewayV2httpRequest) -> Self {
        let sent = content_type(request);
        let sent = MediaType::parse(&sent).ok();
        let own = media::ER7.iter().find(|it| sent.as_ref().is_some_and(|sent| sent.essence() == **it));
        let others = media::ER7.iter().filter(|it| Some(*it) != own);
        let available: Vec<_> = match own {
            Some(own) => std::iter::once(own).chain(others).chain([&APPLICATION_JSON]).collect(),
            None => std::iter::once(&APPLICATION_JSON).chain(others).collect(),
        };
        let accept = header(request, "accept");
        let chosen = media::negotiate(accept, &available).or(available.first().copied());
        match chosen {
            Some(chosen) if *chosen != APPLICATION_JSON => {
                Self::Ack { content_type: chosen.to_string(), charset: charset(accept.unwrap_or_default(), chosen) }
            }
            _ => Self::Json,
        }
    }
}

/// The charset that `Accept` has with that content type.
fn charset(accept: &str, chosen: &MediaType<'_>) -> Option<Charset> {
    let ranges = accept.split(',').filter_map(|range| MediaType::parse(range.trim()).ok());
    let mut of_chosen = ranges.filter(|range| range.essence() == *chosen);
    of_chosen.find_map(|range| Charset::for_label(range.get_param(CHARSET)?.unquoted_str().as_ref()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(content_type: &str, accept: Option<&str>) -> String {
        let mut event: Value = serde_json::from_str(include_str!("fixtures/post_er7.json")).unwrap();
        event["headers"]["content-type"] = json!(content_type);
        event["headers"]["accept"] = json!(accept.unwrap_or_default());
        match Format::of(&serde_json::from_value(event).unwrap()) {
            Format::Json => "json".to_owned(),
            Format::Ack { content_type, charset } => {
                content_type + &charset.map_or(String::new(), |it| format!(" in {}", it.name()))
            }
        }
    }

    #[test]
    fn the_answer_is_what_was_asked_for_or_what_was_sent() {
        const HL7: &str = "application/hl7-v2";
        let table = [
            ("application/json", None, "json"),
            ("application/json", Some("*/*"), "json"),
            ("application/json", Some(HL7), HL7),
            ("application/json", Some("application/json"), "json"),
            (HL7, None, HL7),
            (HL7, Some("*/*"), HL7),
            ("application/hl7-v2; charset=ISO-8859-1", Some("*/*"), HL7),
            (HL7, Some("application/json"), "json"),
            (HL7, Some("application/json, */*;q=0.5"), "json"),
            (HL7, Some("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"), HL7),
            (HL7, Some("text/html"), HL7),
            ("x-application/hl7-v2+er7", Some("*/*"), "x-application/hl7-v2+er7"),
            ("x-application/hl7-v2+er7", Some(HL7), HL7),
            ("text/plain", None, "text/plain"),
            ("text/plain; charset=utf-8", Some(HL7), HL7),
            ("text/plain;;charset=utf-8", None, "text/plain"),
            ("application/hl7-v2; charset=;", None, HL7),
            ("application/hl7-v2; charset = utf-8; boundary", None, HL7),
            ("application/hl7-v2; x=\";;\"; charset=utf-8", None, HL7),
            ("application/xml", None, "json"),
            ("application/xml", Some(HL7), HL7),
            (HL7, Some("application/hl7-v2; charset=iso-8859-15"), "application/hl7-v2 in ISO-8859-15"),
            (HL7, Some("application/hl7-v2; charset=klingon"), HL7),
            (HL7, Some("text/plain; charset=big5;q=0.1, application/hl7-v2"), HL7),
        ];
        for (content_type, accept, expected) in table {
            assert_eq!(of(content_type, accept), expected, "{content_type} {accept:?}");
        }
    }
}
