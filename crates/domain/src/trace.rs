//! The trace that a submission is part of (W3C Trace Context), so that a sender's own trace goes on to the event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};
use serde_with::SerializeDisplay;

use crate::SubmissionId;

/// A place in a trace: the header `traceparent`, version 00, `<version>-<trace id>-<parent id>-<flags>` in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub struct TraceParent {
    trace_id: TraceId,
    parent_id: u64,
    flags: u8,
}

/// 16 bytes that all parts of a trace share, as 32 hexadecimal digits in lower case. Never zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// The text is no `traceparent`, or no trace id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C trace context")]
pub struct InvalidTraceParent;

/// The flags of version 00 and of Level 2: the sender records the trace, and its id is random. Other flags are not passed on.
const FLAGS: u8 = 0b11;
const SAMPLED: u8 = 0b01;
/// Length of a text of version 00.
const LENGTH: usize = 55;

impl TraceParent {
    /// A new trace, made from an id that is used once. The first four bytes of the trace id are that id's time in seconds, as
    /// X-Ray requires.
    #[must_use]
    pub fn begin(id: SubmissionId) -> Self {
        let (millis, random) = id.parts();
        let (seconds, millis) = (millis / 1000, millis % 1000);
        let trace_id = u128::from(seconds) << 96 | u128::from(millis) << 80 | random;
        Self { trace_id: TraceId(trace_id.max(1)), parent_id: span(id), flags: 0 }
    }

    /// The same trace, with a parent id of its own.
    #[must_use]
    pub fn child(self, id: SubmissionId) -> Self {
        Self { parent_id: span(id), ..self }
    }

    /// Reads X-Ray's header, `Root=1-<8 digits>-<24 digits>;Parent=<16 digits>;Sampled=<0 or 1>`, in any order and with other
    /// members. Without a parent, takes `id`'s parent id.
    ///
    /// # Errors
    /// [`InvalidTraceParent`] without a root of version 1.
    pub fn from_xray(header: &str, id: SubmissionId) -> Result<Self, InvalidTraceParent> {
        let part = |name: &str| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
        let (version, root) = part("Root").and_then(|root| root.split_once('-')).ok_or(InvalidTraceParent)?;
        let (seconds, random) = root.split_once('-').ok_or(InvalidTraceParent)?;
        if version != "1" || seconds.len() != 8 {
            return Err(InvalidTraceParent);
        }
        let trace_id = format!("{seconds}{random}").parse()?;
        let parent_id = part("Parent").and_then(|parent| digits(parent, 16)).and_then(|id| u64::try_from(id).ok());
        let flags = if part("Sampled") == Some("1") { SAMPLED } else { 0 };
        Ok(Self { trace_id, parent_id: parent_id.filter(|id| *id != 0).unwrap_or_else(|| span(id)), flags })
    }

    /// As X-Ray's header (`X-Amzn-Trace-Id`, SQS's `AWSTraceHeader`, `traceHeader` of Step Functions).
    #[must_use]
    pub fn xray(self) -> String {
        let trace_id = self.trace_id.to_string();
        let (seconds, random) = trace_id.split_at(8);
        format!("Root=1-{seconds}-{random};Parent={:016x};Sampled={}", self.parent_id, self.flags & SAMPLED)
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(self) -> TraceId {
        self.trace_id
    }

    /// Deserializes a member that may be absent, empty or of another version: none of these stops a message.
    ///
    /// # Errors
    /// When the member is neither text nor null.
    pub fn if_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Self>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
    }
}

/// Eight bytes of an id's random part, as a parent id.
fn span(id: SubmissionId) -> u64 {
    let (_, random) = id.parts();
    u64::try_from(random & u128::from(u64::MAX)).unwrap_or(1).max(1)
}

/// Reads a number of exactly `count` hexadecimal digits, in lower case.
fn digits(text: &str, count: usize) -> Option<u128> {
    let is_hex = text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// "Trace Context", 3.2 and 4.3: a later version may append more after a dash; only the part of version 00 is read.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let (known, more) = text.split_at_checked(LENGTH).ok_or(InvalidTraceParent)?;
        let mut parts = known.splitn(4, '-');
        let mut part = |length| parts.next().and_then(|part| digits(part, length)).ok_or(InvalidTraceParent);
        let (version, trace_id, parent_id, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_known = match version {
            0x00 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        let parent_id = u64::try_from(parent_id).map_err(|_| InvalidTraceParent)?;
        let flags = u8::try_from(flags).map_err(|_| InvalidTraceParent)? & FLAGS;
        if !is_known || trace_id == 0 || parent_id == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(Self { trace_id: TraceId(trace_id), parent_id, flags })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

impl FromStr for TraceId {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        digits(text, 32).filter(|id| *id != 0).map(Self).ok_or(InvalidTraceParent)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENDERS: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn id() -> SubmissionId {
        "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
    }

    #[test]
    fn a_trace_goes_on_with_the_senders_id_and_flags_and_a_place_of_our_own() {
        let ours = SENDERS.parse::<TraceParent>().unwrap().child(id());
        assert_eq!(ours.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-4c61efb99302bd5b-01");
        assert_eq!(ours.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(ours.xray(), "Root=1-4bf92f35-77b34da6a3ce929d0e0e4736;Parent=4c61efb99302bd5b;Sampled=1");
    }

    #[test]
    fn a_trace_that_begins_here_has_its_second_in_front() {
        let own = TraceParent::begin(id());
        let seconds = id().time().unwrap().as_millis() / 1000;
        assert_eq!(own.trace_id().to_string(), format!("{seconds:08x}0103d6764c61efb99302bd5b"));
        assert_eq!(own.to_string().parse(), Ok(own));
        assert_eq!(TraceParent::from_xray(&own.xray(), id()), Ok(own));
    }

    #[test]
    fn an_invalid_traceparent_begins_a_new_trace() {
        let zeros = "0".repeat(32);
        for text in [
            "",
            "00",
            &SENDERS.to_uppercase(),
            &SENDERS.replace("00-4", "ff-4"),
            &format!("{SENDERS}-x"),
            &format!("{SENDERS},{SENDERS}"),
            &format!(" {SENDERS}"),
            &SENDERS.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros),
            &SENDERS.replace("00f067aa0ba902b7", "0000000000000000"),
            &SENDERS.replace("b7-", "bx-"),
            &SENDERS.replace("00f067aa0ba902b7-01", "00f067aa0ba902b70-1"),
            &SENDERS.replace("00-4", "0é-4"),
            "00-DOE^JANE-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let known = Ok(SENDERS.parse().unwrap());
        for text in
            ["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &format!("{}-what", SENDERS.replace("00-4", "cc-4"))]
        {
            assert_eq!(text.parse::<TraceParent>(), known, "{text}");
        }
        assert_eq!(format!("{}what", SENDERS.replace("00-4", "cc-4")).parse::<TraceParent>(), Err(InvalidTraceParent));
        assert_eq!(SENDERS.replace("-01", "-ff").parse::<TraceParent>().unwrap().to_string(), SENDERS.replace("-01", "-03"));
    }

    #[test]
    fn x_rays_header_is_a_trace_too() {
        let read = |text: &str| TraceParent::from_xray(text, id()).map(|it| it.to_string());
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        assert_eq!(read(header).as_deref(), Ok(expected));
        assert_eq!(read(&format!("{header};Lineage=1:2fcd5e51:0")).as_deref(), Ok(expected));
        let without = read("Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0").unwrap();
        assert_eq!(without, "00-5759e988bd862e3fe1be46a994272793-4c61efb99302bd5b-00");
        for text in
            ["", "Root=2-5759e988-bd862e3fe1be46a994272793", "Root=1-5759e98-8bd862e3fe1be46a994272793", "Root=1-DOE-JANE"]
        {
            assert_eq!(read(text), Err(InvalidTraceParent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_trace_comes_back_from_each_of_its_texts(trace_id in 1_u128.., parent_id in 1_u64.., is_sampled: bool) {
            let trace = TraceParent { trace_id: TraceId(trace_id), parent_id, flags: u8::from(is_sampled) };
            prop_assert_eq!(trace.to_string().parse(), Ok(trace));
            prop_assert_eq!(TraceParent::from_xray(&trace.xray(), id()), Ok(trace));
            prop_assert_eq!(trace.trace_id().to_string().parse(), Ok(trace.trace_id()));
        }

        #[test]
        fn no_trace_header_causes_a_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
            let _ = TraceParent::from_xray(&text, id());
        }
    }
}
