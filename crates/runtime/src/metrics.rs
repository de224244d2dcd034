//! Numbers for CloudWatch, in the log line: the embedded metric format. CloudWatch extracts them from the log, so they cost
//! no request, and each number leads to the log line that it came from.
//!
//! Source: "Specification: Embedded metric format", Amazon CloudWatch user guide. A metric's names are a closed list, and so are
//! the values of its dimensions: an institute counts under its own name only where the deployment lists it, because each value is a
//! metric of its own, which costs and stays.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};
use strum::IntoStaticStr;

use crate::env::required_var;
use crate::log::has_error;

const NAMESPACE: &str = "Sluice";
/// The institute name for all institutes that are not listed.
const OTHER: &str = "other";
/// CloudWatch reads at most this many values of one metric from one line.
const MOST_VALUES: usize = 100;

/// The settings of a deployment for its metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Metering {
    stage: String,
    institutes: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
enum Metric {
    /// Messages that were queued.
    Accepted,
    /// Messages that are in the lake.
    Stored,
    /// Submissions of messages that the lake had already.
    Duplicate,
    /// Messages that are kept and not stored.
    Held,
    /// Messages that were refused.
    Rejected,
    /// Tries that failed, and messages that could not even be held.
    Failed,
    /// The size of submitted messages.
    Bytes,
    /// From the 202 to the lake.
    TimeToStored,
    /// How often a message has been tried.
    Tries,
    /// First invocations of a process.
    ColdStart,
    /// Invocations with an error in their line.
    Error,
    /// Invocations that AWS told to slow down.
    Throttled,
    /// Exchanges that found credentials in the cache.
    CredentialCacheHit,
    /// Exchanges that had to request credentials.
    CredentialCacheMiss,
}

impl Metric {
    fn unit(self) -> &'static str {
        match self {
            Self::Bytes => "Bytes",
            Self::TimeToStored => "Milliseconds",
            _ => "Count",
        }
    }

    /// The sets of dimensions: members of the line.
    fn dimensions(self, has_institute: bool) -> &'static [&'static [&'static str]] {
        match self {
            Self::ColdStart | Self::Error | Self::Throttled | Self::CredentialCacheHit | Self::CredentialCacheMiss => {
                &[&["stage", "worker"]]
            }
            Self::Held if has_institute => &[&["stage"], &["stage", "reason"], &["stage", "institute"]],
            Self::Held => &[&["stage"], &["stage", "reason"]],
            Self::Rejected => &[&["stage"], &["stage", "httpStatus"]],
            _ if has_institute => &[&["stage"], &["stage", "institute"]],
            _ => &[&["stage"]],
        }
    }
}

static INSTITUTES: OnceLock<String> = OnceLock::new();

/// Sets the institutes that count under their own names, separated by commas (`METRICS_INSTITUTES`). All others count as one.
/// Must be called before [`crate::serve()`].
pub fn count_institutes(names: String) {
    let _ = INSTITUTES.set(names);
}

impl Metering {
    /// The function's name contains the deployment: `<deployment>-<stack>-<worker>`. Without a function name nothing is counted.
    pub(crate) fn of(worker: &str) -> Option<Self> {
        let function = required_var("AWS_LAMBDA_FUNCTION_NAME").ok()?;
        let institutes = INSTITUTES.get().map_or("", String::as_str);
        Some(Self::new(stage_of(&function, worker).to_owned(), institutes))
    }

    fn new(stage: String, institutes: &str) -> Self {
        let institutes = institutes.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
        Self { stage, institutes }
    }

    /// Adds the metrics of a line to it. A line without metrics stays unchanged.
    pub(crate) fn add(&self, worker: &str, line: &mut Map<String, Value>, is_cold: bool, now_millis: i64) {
        let values = values(worker, line, is_cold);
        if values.is_empty() {
            return;
        }
        let institute =
            line.get("source").and_then(Value::as_str).map(|name| if self.institutes.contains(name) { name } else { OTHER });
        let institute = institute.map(str::to_owned);
        let mut directives: Vec<Value> = Vec::new();
        for (metric, value) in values {
            let name: &'static str = metric.into();
            let definition = json!({ "Name": name, "Unit": metric.unit() });
            let dimensions = json!(metric.dimensions(institute.is_some()));
            match directives.iter_mut().find(|directive| directive.get("Dimensions") == Some(&dimensions)) {
                Some(directive) => {
                    if let Some(metrics) = directive.get_mut("Metrics").and_then(Value::as_array_mut) {
                        metrics.push(definition);
                    }
                }
                None => {
                    directives.push(json!({ "Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": [definition] }));
                }
            }
            line.insert(name.to_owned(), value);
        }
        if let Some(institute) = institute {
            line.insert("institute".to_owned(), institute.into());
        }
        line.insert("stage".to_owned(), self.stage.as_str().into());
        line.insert("_aws".to_owned(), json!({ "Timestamp": now_millis, "CloudWatchMetrics": directives }));
    }
}

/// `lake` of `lake-pipeline-submit`. A name with `-pipeline` in it ends before that, because the alarms and the dashboard of
/// `infra/pipeline.yaml` cut it there.
fn stage_of<'a>(function: &'a str, worker: &str) -> &'a str {
    let stack = function.strip_suffix(worker).and_then(|rest| rest.strip_suffix('-')).unwrap_or(function);
    let name = ["-api", "-identity", "-tables"].iter().find_map(|suffix| stack.strip_suffix(suffix)).unwrap_or(stack);
    name.split_once("-pipeline").map_or(name, |(before, _)| before)
}

/// The metrics of a worker's line.
fn values(worker: &str, line: &Map<String, Value>, is_cold: bool) -> Vec<(Metric, Value)> {
    let text = |name: &str| line.get(name).and_then(Value::as_str);
    let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
    let messages = || line.get("messages").and_then(Value::as_array).into_iter().flatten();
    let mut values: Vec<(Metric, Value)> = Vec::new();
    let mut count = |metric: Metric, value: Option<u64>| values.extend(value.map(|value| (metric, value.into())));

    match worker {
        "submit" => {
            count(Metric::Accepted, number("accepted"));
            count(Metric::Duplicate, number("duplicates"));
            count(Metric::Rejected, number("refused"));
            count(Metric::Bytes, number("sizeBytes"));
        }
        "publish" => match text("outcome") {
            Some("stored" | "unparsable") => {
                count(Metric::Stored, Some(1));
                count(Metric::TimeToStored, text("storedAfterMs").and_then(|text| text.parse().ok()));
            }
            Some("duplicate") => count(Metric::Duplicate, Some(1)),
            Some("failed") => count(Metric::Failed, Some(1)),
            _ => {}
        },
        // Counted here and not in `publish`: an alarm must hear of it even while nothing can be published.
        "hold" => count(Metric::Held, (text("outcome") == Some("held")).then_some(1)),
        "dispatch" => {
            let failed = messages().filter(|message| message.get("error").is_some()).count();
            count(Metric::Failed, u64::try_from(failed).ok().filter(|failed| *failed > 0));
            let tries = messages().filter_map(|message| message.get("tries")?.as_str()?.parse::<u64>().ok());
            let tries: Vec<u64> = tries.take(MOST_VALUES).collect();
            if !tries.is_empty() {
                values.push((Metric::Tries, tries.into()));
            }
        }
        _ => {}
    }

    let mut count = |metric: Metric, is_so: bool| values.extend(is_so.then(|| (metric, 1.into())));
    let is_throttled = |error: Option<&Value>| error.and_then(Value::as_str) == Some("Throttled");
    count(Metric::ColdStart, is_cold);
    count(Metric::Error, has_error(line));
    count(Metric::Throttled, is_throttled(line.get("error")) || messages().any(|message| is_throttled(message.get("error"))));
    count(Metric::CredentialCacheHit, text("credentialCache") == Some("hit"));
    count(Metric::CredentialCacheMiss, text("credentialCache") == Some("miss"));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn metering() -> Metering {
        Metering::new("lake".to_owned(), "west, north")
    }

    /// A line with its metrics, and CloudWatch's reading of them: metric, dimensions with their values, value.
    fn counted(worker: &str, fields: Value, is_cold: bool) -> (Map<String, Value>, BTreeSet<String>) {
        let mut line = line(fields);
        line.insert("worker".to_owned(), worker.into());
        metering().add(worker, &mut line, is_cold, 1_795_867_200_000);
        let mut found = BTreeSet::new();
        for directive in line.get("_aws").and_then(|aws| aws["CloudWatchMetrics"].as_array()).into_iter().flatten() {
            assert_eq!(directive["Namespace"], "Sluice");
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                for set in directive["Dimensions"].as_array().unwrap() {
                    let names = set.as_array().unwrap().iter().map(|it| it.as_str().unwrap());
                    // By the specification, a dimension's value is a text in the root of the line.
                    let set: Vec<_> = names.map(|name| format!("{name}={}", line[name].as_str().unwrap_or_default())).collect();
                    found.insert(format!("{name} {} {}", set.join(","), line[name]));
                }
            }
        }
        (line, found)
    }

    fn set(rows: &[&str]) -> BTreeSet<String> {
        rows.iter().map(|&row| row.to_owned()).collect()
    }

    #[test]
    fn a_submission_counts_by_institute_and_stage() {
        let fields = json!({ "source": "west", "accepted": "2", "duplicates": "0", "sizeBytes": "4711", "httpStatus": "202" });
        let (line, found) = counted("submit", fields, false);
        let expected = set(&[
            "Accepted stage=lake 2",
            "Accepted stage=lake,institute=west 2",
            "Bytes stage=lake 4711",
            "Bytes stage=lake,institute=west 4711",
        ]);
        assert_eq!(found, expected);
        assert_eq!(line["_aws"]["Timestamp"], 1_795_867_200_000_u64);
        let (_, found) = counted("submit", json!({ "refused": "1", "httpStatus": "413" }), false);
        assert_eq!(found, set(&["Rejected stage=lake 1", "Rejected stage=lake,httpStatus=413 1"]));
    }

    #[test]
    fn an_institute_that_is_not_listed_is_one_of_the_others() {
        let (_, found) = counted("submit", json!({ "source": "anybody", "accepted": "1" }), false);
        assert_eq!(found, set(&["Accepted stage=lake 1", "Accepted stage=lake,institute=other 1"]));
    }

    #[test]
    fn each_end_of_a_message_counts() {
        let (_, found) = counted("publish", json!({ "outcome": "stored", "storedAfterMs": "1200" }), false);
        assert_eq!(found, set(&["Stored stage=lake 1", "TimeToStored stage=lake 1200"]));
        let (_, found) = counted("publish", json!({ "outcome": "duplicate", "source": "north" }), false);
        assert_eq!(found, set(&["Duplicate stage=lake 1", "Duplicate stage=lake,institute=north 1"]));
        let (_, found) = counted("hold", json!({ "outcome": "held", "reason": "denied", "source": "north" }), false);
        let expected = ["Held stage=lake 1", "Held stage=lake,institute=north 1", "Held stage=lake,reason=denied 1"];
        assert_eq!(found, set(&expected));
    }

    #[test]
    fn tries_failures_and_throttles_count_by_worker() {
        let messages = json!([{ "tries": "1" }, { "tries": "3", "error": "Throttled" }]);
        let (_, found) = counted("dispatch", json!({ "messages": messages }), true);
        let expected = set(&[
            "Failed stage=lake 1",
            "Tries stage=lake [1,3]",
            "ColdStart stage=lake,worker=dispatch 1",
            "Error stage=lake,worker=dispatch 1",
            "Throttled stage=lake,worker=dispatch 1",
        ]);
        assert_eq!(found, expected);
        let (_, found) = counted("store", json!({ "credentialCache": "hit", "error": "Throttled" }), false);
        let expected = set(&[
            "CredentialCacheHit stage=lake,worker=store 1",
            "Error stage=lake,worker=store 1",
            "Throttled stage=lake,worker=store 1",
        ]);
        assert_eq!(found, expected);
    }

    #[test]
    fn the_stage_is_the_deployments_name() {
        assert_eq!(stage_of("my-lake-pipeline-submit", "submit"), "my-lake");
        assert_eq!(stage_of("my-lake-api-authorize", "authorize"), "my-lake");
        assert_eq!(stage_of("my-lake-tables-tables", "tables"), "my-lake");
        // `!Select [0, !Split ["-pipeline", !Ref AWS::StackName]]` of the templates, for the deployment `hl7-pipeline`.
        assert_eq!(stage_of("hl7-pipeline-pipeline-submit", "submit"), "hl7");
        assert_eq!(stage_of("hl7-pipeline-api-authorize", "authorize"), "hl7");
        assert_eq!(stage_of("clinic-authorizer", "authorize"), "clinic-authorizer");
    }

    #[test]
    fn a_line_without_metrics_stays_as_it_is() {
        let (line, found) = counted("status", json!({ "outcome": "found", "source": "west" }), false);
        assert!(found.is_empty());
        assert_eq!(line.keys().collect::<Vec<_>>(), ["outcome", "source", "worker"]);
    }

    #[test]
    fn a_line_stays_within_what_cloudwatch_reads() {
        let messages: Vec<Value> = (0..500).map(|_| json!({ "tries": "1" })).collect();
        let (line, _) = counted("dispatch", json!({ "messages": messages }), false);
        assert_eq!(line["Tries"].as_array().unwrap().len(), MOST_VALUES);
    }
}
