//! Brings the messages of the dead-letter queue back to where they came from.
//!
//! SQS moves them by itself when asked (`StartMessageMoveTask`), so nothing is lost when this program ends early. A
//! message comes back as a new one, with all its tries before it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Serialize;

use crate::aws::Aws;
use crate::error::explain;
use crate::output::{Reporter, Step};
use crate::outputs::Outputs;
use crate::wait::within;

/// A full queue of days takes a while; SQS moves some hundred messages a second.
const DEADLINE: Duration = Duration::from_secs(6 * 60 * 60);

/// What happened to the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redriven {
    /// How many lay there at first; SQS counts roughly.
    pub found: i64,
    /// How many of them were brought back.
    pub moved: i64,
}

/// Moves all dead letters back to the queue, or only counts them.
///
/// # Errors
/// When SQS refuses, or the move fails half way: what was moved by then is moved.
pub async fn redrive(aws: &Aws, outputs: &Outputs, dry_run: bool, reporter: &Reporter) -> Result<Redriven> {
    let client = Client::new(aws.config());
    let found = messages_in(&client, &outputs.dead_letter_queue_url).await?;
    if dry_run || found == 0 {
        return Ok(Redriven { found, moved: 0 });
    }
    let step = reporter.step("bringing dead letters back");
    let moved = within(DEADLINE, "moving the dead letters", async {
        start(&client, outputs).await?;
        follow(&client, outputs, aws.poll_interval(), found, &step).await
    })
    .await?;
    step.done(format!("{moved} of {found}"));
    Ok(Redriven { found, moved })
}

/// About how many messages are in a queue: waiting, with a reader, or put off.
pub(crate) async fn messages_in(client: &Client, queue_url: &str) -> Result<i64> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let answer = client
        .get_queue_attributes()
        .queue_url(queue_url)
        .set_attribute_names(Some(names.to_vec()))
        .send()
        .await
        .map_err(explain(format!("counting the messages of `{queue_url}`")))?;
    let attributes = answer.attributes.unwrap_or_default();
    let mut count = 0;
    for name in names {
        count += attributes.get(&name).context("SQS gave no count")?.parse::<i64>().context("SQS gave no number")?;
    }
    Ok(count)
}

/// Has SQS begin. A move that is under way already is as good.
async fn start(client: &Client, outputs: &Outputs) -> Result<()> {
    let source = outputs.stack_output("DeadLetterQueueArn")?;
    // Named, because a message that was put among the dead letters by hand has no queue it came from.
    let destination = outputs.stack_output("QueueArn")?;
    match client.start_message_move_task().source_arn(source).destination_arn(destination).send().await {
        Ok(_) => Ok(()),
        Err(error) if error.message().is_some_and(|message| message.contains("already a task running")) => Ok(()),
        Err(error) => Err(explain("moving the dead letters")(error)),
    }
}

async fn follow(client: &Client, outputs: &Outputs, pause: Duration, found: i64, step: &Step) -> Result<i64> {
    let source = outputs.stack_output("DeadLetterQueueArn")?;
    loop {
        let answer = client
            .list_message_move_tasks()
            .source_arn(source)
            .max_results(1)
            .send()
            .await
            .map_err(explain("looking at the move of the dead letters"))?;
        let task = answer.results().first().context("SQS has forgotten the move of the dead letters")?;
        let moved = task.approximate_number_of_messages_moved();
        step.at(format!("{moved} of {found}"));
        match task.status().unwrap_or_default() {
            "RUNNING" => tokio::time::sleep(pause).await,
            "COMPLETED" => return Ok(moved),
            status => bail!(
                "the move of the dead letters ended as {status} after {moved} messages: {}",
                task.failure_reason().unwrap_or("no reason given")
            ),
        }
    }
}
