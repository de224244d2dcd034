//! Keys and tags of the lake's objects: Hive partitions, which Athena and Glue read as they are.

use crate::{MessageId, Source, State, Timestamp};

/// Key of the message itself, in canonical form.
pub fn er7_key(source: &Source, message_id: &MessageId, received_at: Timestamp) -> String {
    let date = received_at.date();
    format!("source={source}/protocol=hl7v2/format=er7/zone=ingest/date={date}/{message_id}.hl7")
}

/// Key of the JSON rendition.
pub fn json_key(source: &Source, message_id: &MessageId, received_at: Timestamp) -> String {
    let date = received_at.date();
    format!("source={source}/protocol=hl7v2/format=json/zone=staging/date={date}/{message_id}.json")
}

/// The tags of both, as the `x-amz-tagging` header wants them. Neither value needs URL encoding.
pub fn tagging(source: &Source, state: State) -> String {
    format!("source={source}&state={}", state.as_str())
}

/// Key of a message in the overflow bucket.
pub fn overflow_key(source: &Source, submission_id: crate::SubmissionId) -> String {
    format!("{source}/{submission_id}.hl7")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Er7;

    #[test]
    fn keys_are_hive_partitions() {
        let source: Source = "general-hospital".parse().unwrap();
        let message_id = Er7::canonical("MSH").unwrap().message_id();
        let day = Timestamp::from_millis(1_795_245_667_120).unwrap();
        assert_eq!(
            er7_key(&source, &message_id, day),
            format!("source=general-hospital/protocol=hl7v2/format=er7/zone=ingest/date=2026-11-21/{message_id}.hl7")
        );
        assert_eq!(
            json_key(&source, &message_id, day),
            format!("source=general-hospital/protocol=hl7v2/format=json/zone=staging/date=2026-11-21/{message_id}.json")
        );
        assert_eq!(tagging(&source, State::Error), "source=general-hospital&state=error");
    }
}
