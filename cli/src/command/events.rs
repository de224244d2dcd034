//! `sluice events`

use anyhow::Result;
use domain::Source;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::ExitCode;
use crate::operator::events::Following;
use crate::output::{Output, json_text, one_line};

/// Which events of which deployment.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    deployment: super::DeploymentArgs,
    /// Show events until interrupted (Ctrl-C).
    #[arg(long, required_unless_present = "count")]
    follow: bool,
    /// Stop after this many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "follow")]
    count: Option<u64>,
    /// Only what happened to messages of this institute.
    #[arg(long, value_name = "NAME")]
    institute: Option<Source>,
    /// Only events of this type, for example held; can be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
}

pub(crate) async fn run(args: Args, output: &Output) -> Result<ExitCode> {
    let (aws, outputs) = args.deployment.find().await?;
    let mut filter = Map::new();
    if let Some(institute) = &args.institute {
        filter.insert("source".to_owned(), json!([institute]));
    }
    if !args.types.is_empty() {
        filter.insert("event".to_owned(), json!(args.types));
    }
    let filter = Value::Object(filter);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut following = Following::begin(&aws, &outputs, &filter).await?;
    output.reporter.say("following the events; stop with Ctrl-C");
    let mut shown = 0;
    let followed = loop {
        let events = tokio::select! {
            events = following.next() => events,
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
        };
        match events {
            Ok(events) => {
                for event in &events {
                    show(event, output);
                    shown += 1;
                    if args.count == Some(shown) {
                        break;
                    }
                }
            }
            Err(error) => break Err(error),
        }
        if args.count.is_some_and(|count| shown >= count) {
            break Ok(());
        }
    };
    following.end().await?;
    followed.map(|()| ExitCode::Success)
}

/// A line for a person; for a program the event as it came, on one line.
fn show(event: &Value, output: &Output) {
    if output.is_json() {
        return output.line(json_text(&event.to_string()));
    }
    let text = |pointer| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let why =
        [text("/data/reason"), text("/data/error/code")].map(|it| if it.is_empty() { String::new() } else { format!("  {it}") });
    let kind = [text("/data/summary/messageType"), text("/data/summary/triggerEvent")].join(" ");
    let line = format!("{}  {:10}  {}  {}  {kind}", text("/time"), text("/type"), text("/data/source"), text("/subject"));
    output.line(one_line(&format!("{}{}", line.trim_end(), why.concat())));
}
