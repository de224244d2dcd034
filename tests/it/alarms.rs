//! The alarms: their own definitions, evaluated against data. The local CloudWatch cannot do this: it extracts no numbers
//! from logs, and ignores dimensions and metric math.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_sqs::types::QueueAttributeName;
use domain::Er7;
use serde_json::{Value, json};
use sluice_tests::template::template;
use sluice_tests::{DEADLINE, Harness, adt, unique};

use crate::contract::root;
use crate::faults::Faults;
use crate::twins::roles;
use crate::{forge, held, logs};

/// A metric's values by period, the newest last; `None` where there is no data.
type Series = Vec<Option<f64>>;

/// Metrics by name, and for one that has a dimension with a fixed value, by `Name/value`.
type Data = BTreeMap<&'static str, Series>;

/// The alarms of all templates, by their names there.
fn alarms() -> Result<BTreeMap<String, Value>> {
    let mut alarms = BTreeMap::new();
    for stack in ["core", "identity", "pipeline", "api", "tables"] {
        let template = template(&root().join(format!("infra/{stack}.yaml")))?;
        for (name, resource) in template["Resources"].as_object().context("resources")? {
            if resource["Type"].as_str().is_some_and(|it| it.starts_with("AWS::CloudWatch::") && it.ends_with("Alarm")) {
                alarms.insert(name.strip_suffix("Alarm").context("an alarm's name")?.to_owned(), resource["Properties"].clone());
            }
        }
    }
    Ok(alarms)
}

/// A value of a template, where `SilentSender1` is `west=3`, the others are `north=24`, and `ErrorBudgetPercent` 0.1.
fn resolved(value: &Value) -> Result<String> {
    if let Some(text) = value.as_str() {
        return Ok(text.replace("${ErrorBudgetPercent}", "0.1"));
    }
    if value.is_number() {
        return Ok(value.to_string());
    }
    if let Some(name) = value.get("Ref") {
        return Ok(if name == "SilentSender1" { "west=3" } else { "north=24" }.to_owned());
    }
    if let Some(text) = value.get("Fn::Sub") {
        return resolved(text);
    }
    let (index, list) = (value["Fn::Select"][0].as_u64().context("an index")?, &value["Fn::Select"][1]["Fn::Split"]);
    let (separator, text) = (list[0].as_str().context("a separator")?, resolved(&list[1])?);
    Ok(text.split(separator).nth(usize::try_from(index)?).context("a part")?.to_owned())
}

fn number(value: &Value, default: f64) -> Result<f64> {
    if value.is_null() { Ok(default) } else { Ok(resolved(value)?.parse()?) }
}

/// Whether the alarm goes off.
fn is_off(alarms: &BTreeMap<String, Value>, name: &str, data: &Data) -> Result<bool> {
    let alarm = alarms.get(name).with_context(|| format!("no alarm {name}"))?;
    if let Some(rule) = alarm.get("AlarmRule") {
        let rule = resolved(rule)?;
        let separator = if rule.contains(" OR ") { " OR " } else { " AND " };
        let parts = rule.split(separator).map(|part| {
            let name =
                part.strip_prefix("ALARM(\"${").and_then(|it| it.strip_suffix("Alarm}\")")).context("ALARM of one of ours")?;
            is_off(alarms, name, data)
        });
        let mut parts = parts.collect::<Result<Vec<bool>>>()?.into_iter();
        return Ok(if separator == " OR " { parts.any(|part| part) } else { parts.all(|part| part) });
    }
    let periods = number(&alarm["EvaluationPeriods"], 1.0)? as usize;
    let needed = number(&alarm["DatapointsToAlarm"], periods as f64)? as usize;
    let threshold = number(&alarm["Threshold"], 0.0)?;
    let is_missing_bad = match alarm["TreatMissingData"].as_str() {
        Some("breaching") => true,
        Some("notBreaching") => false,
        other => bail!("{name}: what is missing data? {other:?}"),
    };
    let mut bad = 0;
    for age in 0..periods {
        let value = match alarm["Metrics"].as_array() {
            None => at(data, alarm, age),
            Some(metrics) => {
                let expression = metrics.iter().find(|it| it.get("Expression").is_some()).context("an expression")?;
                let expression = resolved(&expression["Expression"])?;
                let value = |id: &str| {
                    let metric = metrics.iter().find(|it| it["Id"] == id).with_context(|| format!("no metric {id}"))?;
                    let mut metric = metric["MetricStat"]["Metric"].clone();
                    metric["Period"] = metrics.iter().find_map(|it| it["MetricStat"].get("Period")).cloned().unwrap_or_default();
                    anyhow::Ok(at(data, &metric, age))
                };
                Expression { rest: &expression, value: &value }.whole()?
            }
        };
        bad += usize::from(match value {
            None => is_missing_bad,
            Some(value) => match alarm["ComparisonOperator"].as_str() {
                Some("GreaterThanOrEqualToThreshold") => value >= threshold,
                Some("LessThanThreshold") => value < threshold,
                other => bail!("{name}: {other:?}"),
            },
        });
    }
    Ok(bad >= needed)
}

/// The value of a metric so many periods ago. One with a period of its own (`5xx/300`) counts before one without.
fn at(data: &Data, metric: &Value, age: usize) -> Option<f64> {
    let name = metric["MetricName"].as_str().unwrap_or_default();
    let dimensions = metric["Dimensions"].as_array().into_iter().flatten().filter_map(|it| it["Value"].as_str());
    let more = dimensions.map(str::to_owned).chain([metric["Period"].to_string()]).map(|more| format!("{name}/{more}"));
    let series = more.into_iter().find_map(|key| data.get(key.as_str())).or_else(|| data.get(name))?;
    series.iter().rev().nth(age).copied().flatten()
}

/// An operator and what it does.
type Operator = (&'static str, fn(f64, f64) -> f64);

/// CloudWatch's metric math, as far as ours goes: `IF`, `FILL`, `AND`, comparisons and arithmetic. Without data there is no value.
struct Expression<'a, V: Fn(&str) -> Result<Option<f64>>> {
    rest: &'a str,
    value: &'a V,
}

impl<V: Fn(&str) -> Result<Option<f64>>> Expression<'_, V> {
    fn whole(mut self) -> Result<Option<f64>> {
        let value = self.and()?;
        ensure!(self.rest.trim().is_empty(), "what is `{}`?", self.rest);
        Ok(value)
    }

    fn take(&mut self, token: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn binary(&mut self, operators: &[Operator], part: fn(&mut Self) -> Result<Option<f64>>) -> Result<Option<f64>> {
        let mut left = part(self)?;
        while let Some((_, operate)) = operators.iter().find(|(token, _)| self.take(token)) {
            let right = part(self)?;
            left = left.zip(right).map(|(left, right)| operate(left, right));
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Option<f64>> {
        self.binary(&[("AND", |left, right| f64::from(left != 0.0 && right != 0.0))], Self::comparison)
    }

    fn comparison(&mut self) -> Result<Option<f64>> {
        let operators: [Operator; 2] =
            [("==", |left, right| f64::from(left == right)), (">", |left, right| f64::from(left > right))];
        self.binary(&operators, Self::sum)
    }

    fn sum(&mut self) -> Result<Option<f64>> {
        self.binary(&[("+", |left, right| left + right)], Self::product)
    }

    fn product(&mut self) -> Result<Option<f64>> {
        self.binary(&[("*", |left, right| left * right), ("/", |left, right| left / right)], Self::term)
    }

    fn term(&mut self) -> Result<Option<f64>> {
        if self.take("IF(") {
            let (condition, _) = (self.and()?, self.take(","));
            let (yes, _) = (self.and()?, self.take(","));
            let (no, is_closed) = (self.and()?, self.take(")"));
            ensure!(is_closed, "an open IF");
            return Ok(condition.and_then(|it| if it == 0.0 { no } else { yes }));
        }
        if self.take("FILL(") {
            let (value, _) = (self.and()?, self.take(","));
            let (fill, is_closed) = (self.and()?, self.take(")"));
            ensure!(is_closed, "an open FILL");
            return Ok(value.or(fill));
        }
        let rest = self.rest.trim_start();
        let end = rest.find(|it: char| !it.is_ascii_alphanumeric() && it != '.').unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        self.rest = rest;
        if word.starts_with(|it: char| it.is_ascii_digit()) { Ok(Some(word.parse()?)) } else { (self.value)(word) }
    }
}

fn some(values: &[f64]) -> Series {
    values.iter().copied().map(Some).collect()
}

/// What an alarm hears of, and what it must not: with its name, or for all whose names end so.
fn faults() -> Vec<(&'static str, Data, Data)> {
    let one = |name, values: &[f64]| Data::from([(name, some(values))]);
    let none = Data::new;
    let burn = |errors: [f64; 2]| {
        let [short, long] = errors.map(|errors| some(&[errors]));
        let requests = [("Count", some(&[10_000.0]))];
        (short, long, requests)
    };
    let window = |short_period: &'static str, long_period: &'static str, errors: [f64; 2]| {
        let (short, long, requests) = burn(errors);
        Data::from_iter(requests.into_iter().chain([(short_period, short), (long_period, long)]))
    };
    let two = |first: (&'static str, &[f64]), second: (&'static str, &[f64])| {
        Data::from([(first.0, some(first.1)), (second.0, some(second.1))])
    };
    vec![
        ("DeadLetter", one("ApproximateNumberOfMessagesVisible", &[1.0]), one("ApproximateNumberOfMessagesVisible", &[0.0])),
        ("QueueAge", one("ApproximateAgeOfOldestMessage", &[900.0; 5]), one("ApproximateAgeOfOldestMessage", &[890.0; 5])),
        ("ExecutionsFailed", one("ExecutionsFailed", &[50.0; 5]), none()),
        ("ExecutionsTimedOut", one("ExecutionsTimedOut", &[50.0; 5]), none()),
        ("Deployment", one("DeploymentFailures", &[1.0]), none()),
        ("HeldDenied", one("Held/denied", &[1.0]), one("Held/expired", &[1.0])),
        ("HeldExpired", one("Held/expired", &[1.0]), one("Held/failed", &[1.0])),
        ("HeldDeployment", one("Held/deployment", &[1.0]), one("Held/denied", &[1.0])),
        ("HeldFailed", one("Held/failed", &[1.0]), one("Held/denied", &[1.0])),
        ("NothingStored", one("Accepted", &[1.0, 1.0, 1.0]), two(("Accepted", &[9.0, 9.0, 9.0]), ("Stored", &[1.0, 0.0, 0.0]))),
        // Silent for its three hours; the other is silent only after 24.
        (
            "SilentSender1",
            one("Accepted", &[1.0, 0.0, 0.0, 0.0]),
            two(("Accepted", &[0.0, 0.0, 0.0]), ("Duplicate", &[0.0, 1.0, 0.0])),
        ),
        ("SilentSender2", none(), one("Accepted", &[1.0, 0.0, 0.0, 0.0])),
        ("BudgetFiveMinutes", two(("5xx", &[145.0]), ("Count", &[10_000.0])), two(("5xx", &[143.0]), ("Count", &[10_000.0]))),
        ("BudgetHour", two(("5xx", &[145.0]), ("Count", &[10_000.0])), two(("5xx", &[2.0]), ("Count", &[2.0]))),
        ("BudgetHalfHour", two(("5xx", &[61.0]), ("Count", &[10_000.0])), two(("5xx", &[59.0]), ("Count", &[10_000.0]))),
        ("BudgetSixHours", two(("5xx", &[61.0]), ("Count", &[10_000.0])), none()),
        // Over, or too short to matter, is silent.
        ("BudgetBurnsFast", window("5xx/300", "5xx/3600", [200.0, 200.0]), window("5xx/300", "5xx/3600", [0.0, 200.0])),
        ("BudgetBurns", window("5xx/1800", "5xx/21600", [80.0, 80.0]), window("5xx/1800", "5xx/21600", [80.0, 10.0])),
        ("ApiRollback", one("Errors", &[1.0, 1.0]), one("5xx", &[1.0, 0.0, 0.0])),
        ("PipelineRollback", one("DeploymentFailures", &[1.0]), one("ApproximateAgeOfOldestMessage", &[900.0; 5])),
        ("ServerErrors", one("5xx", &[1.0, 0.0, 1.0]), one("5xx", &[1.0, 0.0, 0.0])),
        ("Errors", one("Errors", &[50.0; 5]), none()),
        ("Throttles", one("Throttles", &[1.0]), one("Throttles", &[0.0])),
    ]
}

#[test]
fn each_alarm_goes_off_for_its_fault_and_is_silent_otherwise() -> Result<()> {
    let (alarms, faults) = (alarms()?, faults());
    for name in alarms.keys() {
        let named = |is_it: &dyn Fn(&str) -> bool| faults.iter().find(|(fault, ..)| is_it(fault));
        // Those that are like others are told by the end or the beginning of the name.
        let row = named(&|fault| fault == name)
            .or_else(|| named(&|fault| name.ends_with(fault) || name.starts_with("SilentSender") && fault == "SilentSender2"));
        let (_, fault, calm) = row.with_context(|| format!("no fault for {name}"))?;
        assert!(is_off(&alarms, name, fault)?, "{name} is silent at its fault");
        assert!(!is_off(&alarms, name, calm)?, "{name} goes off for nothing");
    }
    for (fault, ..) in &faults {
        assert!(alarms.keys().any(|name| name.ends_with(fault)), "no alarm {fault}");
    }
    Ok(())
}

#[test]
fn each_alarm_has_a_section_that_says_what_to_do() -> Result<()> {
    let page = std::fs::read_to_string(root().join("docs/OPERATIONS.md"))?;
    let (_, rest) = page.split_once("\n## Alarms\n").context("the chapter")?;
    let (chapter, _) = rest.split_once("\n## ").context("another chapter")?;
    let (table, sections) = chapter.split_once("\n### ").context("a section")?;
    let anchors: BTreeSet<String> = table.split("](#").skip(1).filter_map(|it| it.split(')').next()).map(str::to_owned).collect();
    let mut found = BTreeSet::new();
    for section in sections.split("\n### ") {
        let title = section.lines().next().unwrap_or_default();
        for part in ["**Means**", "**Look at**", "**Do**"] {
            assert!(section.contains(part), "{title}: {part}");
        }
        found.insert(title.to_lowercase().replace(' ', "-"));
    }
    assert_eq!(found, anchors);
    for name in alarms()?.keys() {
        let is_named = table.contains(&format!("`{name}`")) || name.ends_with("Throttles") || name.starts_with("SilentSender");
        assert!(is_named, "{name}");
    }
    Ok(())
}

/// The first line of a worker with this text, once there is one.
async fn line(it: &Harness, worker: &str, since: i64, text: &str) -> Result<Value> {
    let (group, began) = (logs::group_of(it, worker)?, tokio::time::Instant::now());
    loop {
        if let Some(line) = logs::structured(&logs::lines(it, &group, since, text).await?)?.into_iter().next() {
            return Ok(line);
        }
        ensure!(began.elapsed() < DEADLINE, "no line of {worker} has {text}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_traces_of_a_real_fault_set_its_alarm_off() -> Result<()> {
    let (it, alarms, since) = (Harness::new()?, alarms()?, logs::now());
    let admin = it.admin().await?;

    // Held: the number in the line of `hold`.
    let envelope = held::expired(&it).await?;
    let line_of_hold = line(&it, "Hold", since, envelope.message_id.as_str()).await?;
    assert_eq!((&line_of_hold["outcome"], &line_of_hold["reason"]), (&json!("held"), &json!("expired")));
    let held = Data::from([("Held/expired", vec![line_of_hold["Held"].as_f64()])]);
    assert!(is_off(&alarms, "HeldExpired", &held)? && !is_off(&alarms, "HeldDenied", &held)?);

    // Accepted, and nothing stored: the numbers in the line of `submit`, and none of `publish`.
    let answer = it.submit(&admin, &adt(&unique(), "DOE")).await?;
    let line_of_submit = line(&it, "Submit", since, &answer.text("messageId")).await?;
    let accepted = line_of_submit["Accepted"].as_f64();
    let mut standing = Data::from([("Accepted", vec![accepted; 3])]);
    assert!(is_off(&alarms, "NothingStored", &standing)?);
    // Stored after all.
    let line_of_publish = line(&it, "Publish", since, &answer.text("messageId")).await?;
    standing.insert("Stored", vec![None, None, line_of_publish["Stored"].as_f64()]);
    assert!(!is_off(&alarms, "NothingStored", &standing)?);

    // Executions that fail.
    let mut failed = 0.0;
    for _ in 0..5 {
        let execution = forge::execute(&it, &json!({ "v": 1 })).await?;
        failed += f64::from(u8::from(execution.status().as_str() == "FAILED"));
    }
    assert!(is_off(&alarms, "ExecutionsFailed", &Data::from([("ExecutionsFailed", some(&[failed]))]))?, "{failed}");

    // What is no envelope, in the dead-letter queue.
    let sqs = aws_sdk_sqs::Client::new(it.aws.config());
    sqs.send_message().queue_url(&it.outputs.queue_url).message_body(unique()).send().await?;
    let (visible, began) = (QueueAttributeName::ApproximateNumberOfMessages, tokio::time::Instant::now());
    loop {
        let url = &it.outputs.dead_letter_queue_url;
        let found = sqs.get_queue_attributes().queue_url(url).attribute_names(visible.clone()).send().await?;
        let count: Option<f64> = found.attributes().and_then(|it| it.get(&visible)).and_then(|it| it.parse().ok());
        if is_off(&alarms, "DeadLetter", &Data::from([("ApproximateNumberOfMessagesVisible", vec![count])]))? {
            break;
        }
        ensure!(began.elapsed() < DEADLINE, "no dead letter");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// The value that a metric filter of ours takes from a log line; `None` if the line does not match. A pattern of ours names one field
/// and its text.
fn counted(filter: &Value, line: &Value) -> Result<Option<f64>> {
    let pattern = filter["FilterPattern"].as_str().context("a pattern")?;
    let parts = pattern.strip_prefix("{ $.").and_then(|it| it.strip_suffix("\" }")).and_then(|it| it.split_once(" = \""));
    let (field, text) = parts.with_context(|| format!("what is `{pattern}`?"))?;
    let value = number(&filter["MetricTransformations"][0]["MetricValue"], 0.0)?;
    Ok((line[field] == text).then_some(value))
}

#[tokio::test]
async fn a_message_that_the_deployment_refuses_sets_an_alarm_off_at_its_first_try() -> Result<()> {
    let (it, alarms, since) = (Harness::new()?, alarms()?, logs::now());
    let (admin, users) = (it.admin().await?, roles(&it, "identity").await?);
    let message = adt(&unique(), "DOE");
    let message_id = Er7::canonical(&message)?.message_id();
    // Once, as a bucket policy that is wrong for a moment.
    let fault = json!({
        "id": it.institute, "action": "s3:PutObject", "kind": "denied", "calls": 1,
        "principal": users.get("UserRole").context("a role")?, "marker": format!("{message_id}.hl7"),
    });
    let faults = Faults::of(&it)?;
    faults.ask("POST", &fault).await?;
    let answer = it.submit(&admin, &message).await?;
    ensure!(answer.status == 202, "{}: {}", answer.status, answer.json());

    let line_of_dispatch = line(&it, "Dispatch", since, message_id.as_str()).await?;
    assert_eq!(line_of_dispatch["failure"], "deployment", "{line_of_dispatch}");
    let mut messages = line_of_dispatch["messages"].as_array().into_iter().flatten();
    let tried = messages.find(|it| it["messageId"] == message_id.as_str()).context("the message is in its line")?;
    assert_eq!((&tried["tries"], &tried["error"]), (&json!("1"), &json!("Misconfigured")));

    let pipeline = template(&root().join("infra/pipeline.yaml"))?;
    let filter = &pipeline["Resources"]["DeploymentMetric"]["Properties"];
    assert_eq!(filter["LogGroupName"], json!({ "Ref": "DispatchLogGroup" }));
    assert_eq!(filter["MetricTransformations"][0]["MetricName"], alarms["Deployment"]["MetricName"]);
    let goes_off = |line: &Value, name: &str| -> Result<bool> {
        is_off(&alarms, name, &Data::from([("DeploymentFailures", vec![counted(filter, line)?])]))
    };
    assert!(goes_off(&line_of_dispatch, "Deployment")? && goes_off(&line_of_dispatch, "PipelineRollback")?);
    assert!(!goes_off(&line_of_dispatch, "HeldDeployment")?, "the message is not held");
    // The same line of a message that failed for another reason.
    let mut other = line_of_dispatch.clone();
    other.as_object_mut().context("an object")?.remove("failure");
    assert!(!goes_off(&other, "Deployment")?);

    let status = it.api.final_status(message_id.as_str(), &admin.token, DEADLINE).await?;
    assert_eq!(status["status"], "stored", "and the next try stores it");
    faults.ask("DELETE", &json!({ "id": it.institute })).await?;
    Ok(())
}
