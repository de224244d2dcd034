//! The bill of a month.

use anyhow::{Result, ensure};
use serde::Serialize;

use super::measured::{Case, Measured};
use super::prices::Prices;

/// The units of the indexes for search (`SearchIndexes`): a stored record is written once to the one by control id, and once for each
/// identifier of its patient, of which this is one, to the one by patient.
const SEARCH_UNITS: f64 = 2.0;
/// The bytes of both index entries.
const SEARCH_BYTES: f64 = 900.0;

/// The bytes of an entry of the index by arrival, under the limit of a unit
/// (`read::an_entry_of_the_index_by_arrival_is_a_single_write_unit`).
const ARRIVAL_BYTES: f64 = 950.0;
/// An entry is written when its message is submitted, and when it is stored. A claim changes nothing there.
const ARRIVAL_WRITES: f64 = 2.0;

/// The month of a bill.
const DAYS: f64 = 30.0;
const SECONDS_A_DAY: f64 = 86_400.0;

/// The bytes that a request of SQS or SNS holds at one price.
const CHUNK_BYTES: f64 = 65_536.0;
/// The bytes that a request of an HTTP API holds at one price.
const API_CHUNK_BYTES: f64 = 524_288.0;
/// A unit of DynamoDB's writes.
const UNIT_BYTES: f64 = 1024.0;
const GB: f64 = 1e9;

/// The bytes of an envelope beside the message: mostly the sealed token.
const ENVELOPE_BYTES: f64 = 3_000.0;
/// A larger message lies in the overflow bucket (`domain::Payload::MAX_INLINE_BYTES`).
const MAX_INLINE_BYTES: u64 = 98_304;

/// Lambda polls a queue with five long polls of 20 seconds at least, also when nothing comes (Lambda developer guide, "Amazon SQS").
const IDLE_RECEIVES_A_DAY: f64 = 5.0 * SECONDS_A_DAY / 20.0;

/// A data key is used for so long (`seal::MAX_KEY_AGE`).
const KEY_SECONDS: f64 = 1_800.0;
/// A process of store keeps an institute's key of patients' hashes for so long (`patients::MAX_KEY_AGE`).
const PATIENT_KEY_SECONDS: f64 = 43_200.0;

/// The bytes that the state machine logs for an execution at level ALL: five events for each of four tasks, two for each of two choices, two for
/// the execution, of some 400 bytes each ("Logging in CloudWatch Logs", Step Functions developer guide). The local AWS writes no such log.
const EXECUTION_LOG_BYTES: f64 = (4.0 * 5.0 + 2.0 * 2.0 + 2.0) * 400.0;

/// Which states an execution of a stored message passes: four tasks and two choices.
const TRANSITIONS: f64 = 6.0;

/// Keys of KMS: one for data, one for tokens, one for hashes of patients.
const KEYS: f64 = 3.0;

/// The load of a bill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Load {
    /// Messages a day, of all institutes.
    pub(crate) messages_per_day: f64,
    /// The size of each.
    pub(crate) size_bytes: u64,
    /// Among how many institutes they are divided, evenly.
    pub(crate) institutes: u32,
    /// How many messages a request has.
    pub(crate) batch: u32,
}

/// A choice of the deployment that changes the bill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Standard workflows in place of express ones.
    pub(crate) is_standard: bool,
    /// The state machine's log at level ALL (`ExecutionLogLevel`).
    pub(crate) logs_all: bool,
    /// arm64 in place of x86_64 (`Architecture`), at the same times.
    pub(crate) is_arm: bool,
}

/// The bill of a month.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bill {
    /// The cost of the messages, part by part.
    pub(crate) parts: Vec<BillItem>,
    /// The sum of the parts.
    pub(crate) month: f64,
    /// The cost of a million messages, without the fixed costs.
    pub(crate) per_million: f64,
}

/// One part of a bill.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BillItem {
    /// The price's name.
    pub(crate) price: &'static str,
    /// The service or unit that it pays for.
    pub(crate) what: &'static str,
    /// The quantity for one message; 0 for a fixed cost.
    pub(crate) per_message: f64,
    /// How many in the month.
    pub(crate) quantity: f64,
    /// In the price file's currency.
    pub(crate) month: f64,
}

impl Load {
    /// # Errors
    /// With a sentence, when the numbers make no sense.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { messages_per_day, institutes, size_bytes, batch } = *self;
        ensure!(
            messages_per_day.is_finite() && messages_per_day > 0.0,
            "a bill needs messages: {messages_per_day} a day are none"
        );
        ensure!(messages_per_day <= 1e12, "more than 10^12 messages a day is more than the bill can compute");
        ensure!(size_bytes > 0, "a message has a size");
        ensure!(institutes > 0, "messages come from an institute: 0 institutes send none");
        ensure!(batch > 0, "a request has a message");
        ensure!(
            f64::from(institutes) <= messages_per_day * DAYS,
            "{institutes} institutes cannot send fewer messages than they are"
        );
        Ok(())
    }

    /// Requests to KMS for one message: each process of submit makes a data key for an institute every half an hour, and each process of
    /// store unwraps each of these, and asks for the institute's key of patients' hashes twice a day. Messages meet processes at random, as
    /// in throws of balls into boxes.
    fn kms_requests(&self, submit_ms: f64, store_ms: f64) -> f64 {
        let rate = self.messages_per_day / SECONDS_A_DAY;
        let requests = rate / f64::from(self.batch);
        let sent = rate / f64::from(self.institutes) * KEY_SECONDS;
        let processes = |rate: f64, ms: f64| (rate * ms / 1000.0 * 2.0).ceil().max(1.0);
        let filled = |boxes: f64, balls: f64| boxes * -(-balls / boxes).exp_m1();
        let keys = filled(processes(requests, submit_ms), sent / f64::from(self.batch)).min(sent / f64::from(self.batch));
        let pairs = keys.max(1e-9) * processes(rate, store_ms);
        let hashed = rate / f64::from(self.institutes) * PATIENT_KEY_SECONDS;
        let hashes = filled(processes(rate, store_ms), hashed).min(hashed) / hashed;
        ((keys + filled(pairs, sent).min(sent)) / sent).min(2.0) + hashes
    }
}

impl Bill {
    /// The bill of a load.
    ///
    /// # Errors
    /// When a price is missing, or such a message was not measured.
    pub(crate) fn of(load: Load, variant: Variant, measured: &Measured, prices: &Prices) -> Result<Self> {
        load.check()?;
        let case = measured.warm(load.batch, load.size_bytes)?;
        let messages = load.messages_per_day * DAYS;
        let mut parts = Vec::new();
        for (price, what, per_message) in per_message(load, variant, measured, case) {
            parts.push(BillItem {
                price,
                what,
                per_message,
                quantity: per_message * messages,
                month: per_message * messages * prices.of(price)?,
            });
        }
        let per_million = parts.iter().map(|part| part.month).sum::<f64>() / messages * 1e6;
        let fixed = [
            ("sqs.request", "receives of a queue that is empty", IDLE_RECEIVES_A_DAY * DAYS),
            ("kms.keyMonth", "the keys of data, of tokens and of patients' hashes", KEYS),
            ("cloudwatch.metricMonth", "the numbers in the workers' lines", measured.metrics),
            ("cloudwatch.alarmMonth", "alarms", measured.alarms),
        ];
        for (price, what, quantity) in fixed {
            parts.push(BillItem { price, what, per_message: 0.0, quantity, month: quantity * prices.of(price)? });
        }
        Ok(Self { month: parts.iter().map(|part| part.month).sum(), parts, per_million })
    }

    /// The list price of a million messages in Google's HL7v2 store: one standard request a message, and its bytes. The figure
    /// leaves out the store's index, and the store does not give deduplication, a user's own rights or events for it.
    ///
    /// # Errors
    /// When a price is missing.
    pub(crate) fn google_per_million(load: Load, prices: &Prices) -> Result<f64> {
        Ok(1e6 * (prices.of("google.request")? + load.size_bytes as f64 / GB * prices.of("google.gbMonth")?))
    }
}

/// The quantity of each price for one message.
fn per_message(load: Load, variant: Variant, measured: &Measured, case: &Case) -> Vec<(&'static str, &'static str, f64)> {
    let size = load.size_bytes as f64;
    let batch = f64::from(load.batch);
    let invocations = |worker: &str| case.invocations.get(worker).map_or(0.0, |it| it.count);
    let ms = |worker: &str| case.invocations.get(worker).map_or(0.0, |it| it.ms);
    let gb_seconds: f64 = case
        .invocations
        .iter()
        .map(|(worker, used)| used.ms / 1000.0 * measured.memory_mb.get(worker).copied().unwrap_or(128.0) / 1024.0)
        .sum();
    let steps: f64 = ["deduplicate", "parse", "store", "publish"].into_iter().map(ms).sum();
    let envelope = ENVELOPE_BYTES + if load.size_bytes <= MAX_INLINE_BYTES { size * 4.0 / 3.0 } else { 0.0 };
    // The bytes of each request are charged in chunks.
    let chunks =
        |requests: f64| if requests > 0.0 { requests * (envelope / requests.min(1.0) / CHUNK_BYTES).ceil() } else { 0.0 };
    let takes = invocations("dispatch");
    let kms = load.kms_requests(ms("submit"), ms("store"));
    let log: f64 = case.log_bytes.values().sum();
    let units = write_units(case.requests("dynamodb:UpdateItem"), case.item_bytes);

    let mut parts = vec![
        ("apigateway.request", "POST /er7", (size * batch / API_CHUNK_BYTES).ceil() / batch),
        ("lambda.request", "invocations of the workers", case.invocations.values().map(|it| it.count).sum()),
        (if variant.is_arm { "lambda.gbSecondArm" } else { "lambda.gbSecondX86" }, "the workers' time", gb_seconds),
        (
            "sqs.request",
            "sent to the queue, received and deleted",
            chunks(case.requests("sqs:SendMessage")) + chunks(takes) + takes,
        ),
        ("dynamodb.writeUnit", "the record, written three times", units),
        ("dynamodb.writeUnit", "the index by arrival, written twice", ARRIVAL_WRITES * (ARRIVAL_BYTES / UNIT_BYTES).ceil()),
        ("dynamodb.writeUnit", "the indexes for search: by control id, and by patient for one identifier", SEARCH_UNITS),
        ("s3.put", "message, rendition, what is too large for the queue", case.requests("s3:PutObject")),
        ("s3.get", "what was too large for the queue", case.requests("s3:GetObject")),
        ("s3.gbMonth", "the objects, for a month", case.object_bytes / GB),
        ("s3.tagMonth", "two tags on each object, for a month", case.objects * 2.0),
        (
            "dynamodb.gbMonth",
            "the record in table and indexes, for a month",
            (case.item_bytes + ARRIVAL_BYTES + SEARCH_BYTES) / GB,
        ),
        ("kms.request", "data keys of tokens, made and unwrapped, and keys of patients' hashes", kms),
        ("sns.publish", "the event", case.requests("sns:Publish")),
        ("logs.gb", "the workers' lines", log / GB),
    ];
    if variant.is_standard {
        parts.push(("states.standardTransition", "states of a standard workflow", TRANSITIONS));
    } else {
        parts.push(("states.expressRequest", "the execution", 1.0));
        parts.push(("states.expressGbSecond", "its time, in 100 ms of 64 MB", (steps / 100.0).ceil() / 10.0 / 16.0));
        if variant.logs_all {
            parts.push(("logs.gb", "the state machine's log at level ALL", EXECUTION_LOG_BYTES / GB));
        }
    }
    parts.retain(|(_, _, quantity)| *quantity > 0.0);
    parts
}

/// Units of the writes to a record in the table. It is under 1 KiB until it is stored.
fn write_units(updates: f64, item_bytes: f64) -> f64 {
    let last = updates.min(1.0) * (item_bytes / UNIT_BYTES).ceil();
    (updates - 1.0).max(0.0) + last
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Variant = Variant { is_standard: false, logs_all: false, is_arm: false };

    fn load(messages_per_day: f64, institutes: u32) -> Load {
        Load { messages_per_day, size_bytes: 2048, institutes, batch: 1 }
    }

    fn bill(load: Load, variant: Variant) -> Bill {
        Bill::of(load, variant, &Measured::built_in().unwrap(), &Prices::built_in().unwrap()).unwrap()
    }

    #[test]
    fn a_bill_is_the_sum_of_its_parts_and_grows_with_the_messages() {
        let (one, ten) = (bill(load(1e5, 1), OURS), bill(load(1e6, 1), OURS));
        assert!((one.month - one.parts.iter().map(|it| it.month).sum::<f64>()).abs() < 1e-9);
        assert!(ten.month > 8.0 * one.month && ten.month < 10.0 * one.month, "{} {}", ten.month, one.month);
        assert!(one.parts.iter().all(|part| part.month >= 0.0 && part.month.is_finite()));
        assert!(one.per_million > 0.0 && one.per_million * 3.0 < one.month);
    }

    #[test]
    fn standard_workflows_and_a_full_log_cost_more_and_arm_less() {
        let ours = bill(load(1e5, 10), OURS).per_million;
        let with = |variant| bill(load(1e5, 10), variant).per_million;
        assert!(with(Variant { is_standard: true, ..OURS }) > ours + 100.0, "six transitions at 25 dollars a million");
        assert!(with(Variant { logs_all: true, ..OURS }) > ours + 4.0);
        assert!(with(Variant { is_arm: true, ..OURS }) < ours);
    }

    #[test]
    fn kms_gets_a_request_for_one_message_in_fifty_under_load_and_never_more_than_three_for_one() {
        let kms = |load: Load| load.kms_requests(20.0, 60.0);
        assert!(kms(load(1e6, 1)) <= 0.02, "{}", kms(load(1e6, 1)));
        assert!(kms(load(1e5, 20)) <= 0.02, "{}", kms(load(1e5, 20)));
        // Each process of store meets each of submit for each institute.
        assert!(kms(load(1e8, 100)) <= 0.5, "{}", kms(load(1e8, 100)));
        assert!(kms(load(1.0, 1)) <= 3.0 && kms(load(1.0, 1)) > 2.0);
        assert!(kms(load(1e5, 5000)) <= 2.5);
    }

    #[test]
    fn a_load_that_makes_no_sense_is_refused_with_a_sentence() {
        let table = [
            (load(0.0, 1), "a bill needs messages: 0 a day are none"),
            (load(-1.0, 1), "a bill needs messages: -1 a day are none"),
            (load(f64::NAN, 1), "a bill needs messages: NaN a day are none"),
            (load(1e13, 1), "more than 10^12 messages a day is more than the bill can compute"),
            (load(10.0, 0), "messages come from an institute: 0 institutes send none"),
            (load(1.0, 31), "31 institutes cannot send fewer messages than they are"),
            (Load { size_bytes: 0, ..load(10.0, 1) }, "a message has a size"),
            (Load { batch: 0, ..load(10.0, 1) }, "a request has a message"),
        ];
        for (load, says) in table {
            assert_eq!(load.check().unwrap_err().to_string(), says);
        }
    }

    #[test]
    fn a_price_that_is_missing_and_a_message_that_was_not_measured_are_errors_that_name_them() {
        let measured = Measured::built_in().unwrap();
        let file = include_str!("../../../data/prices.json");
        for name in ["kms.request", "s3.tagMonth", "cloudwatch.alarmMonth", "states.expressGbSecond"] {
            let without = Prices::read(&file.replace(&format!("\"{name}\""), "\"something.else\"")).unwrap();
            let error = Bill::of(load(10.0, 1), OURS, &measured, &without).unwrap_err();
            assert_eq!(error.to_string(), format!("the price file has no price `{name}`"));
        }
        let prices = Prices::built_in().unwrap();
        let error = |load| Bill::of(load, OURS, &measured, &prices).unwrap_err().to_string();
        assert!(error(Load { size_bytes: 10_000_000, ..load(10.0, 1) }).ends_with("bytes were measured, 1 in a request"));
        assert_eq!(error(Load { batch: 7, ..load(10.0, 1) }), "requests of 7 messages were not measured");
    }

    #[test]
    fn the_bill_knows_how_many_states_an_execution_passes() {
        let definition: serde_json::Value =
            serde_json::from_str(include_str!("../../../../statemachines/ingest.asl.json")).unwrap();
        let (mut name, mut passed) = (definition["StartAt"].as_str().unwrap(), 0.0);
        loop {
            passed += 1.0;
            let state = &definition["States"][name];
            if state["End"] == true {
                break;
            }
            let next = state["Choices"].as_array().and_then(|choices| {
                let taken = |it: &&serde_json::Value| {
                    let condition = it["Condition"].as_str().unwrap_or_default();
                    !condition.contains("hold") && !condition.contains("release")
                };
                choices.iter().find(taken).and_then(|it| it["Next"].as_str())
            });
            name = next.or(state["Default"].as_str()).or(state["Next"].as_str()).unwrap();
        }
        assert!((passed - TRANSITIONS).abs() < 0.1, "{passed}, ended with {name}");
    }
}
