//! Reads the dead-letter queue, and leaves in it the messages that the caller does not take.
//!
//! SQS cannot be searched: to see a message is to receive it, which hides it for a while. Messages that were seen stay hidden
//! until the end, so that none is seen twice; then they become visible again. After an interrupted walk SQS makes them
//! visible, after [`HIDDEN`].

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName};

use client::error::explain;

/// How long a message that has been seen stays hidden, if nothing else happens to it.
const HIDDEN: Duration = Duration::from_secs(10 * 60);

/// Most messages that SQS gives, takes or changes in one call.
pub(crate) const BATCH: usize = 10;

/// A walk through the queue.
#[derive(Debug)]
pub(crate) struct DeadLetters<'a> {
    client: &'a Client,
    queue_url: &'a str,
    /// Ids of the messages that were seen.
    seen: HashSet<String>,
    /// Receipts of the messages that stay in the queue.
    kept: Vec<String>,
}

impl<'a> DeadLetters<'a> {
    pub(crate) fn new(client: &'a Client, queue_url: &'a str) -> Self {
        Self { client, queue_url, seen: HashSet::new(), kept: Vec::new() }
    }

    /// The next messages, at most ten; none after the last one.
    pub(crate) async fn next(&mut self) -> Result<Vec<Message>> {
        let received = self
            .client
            .receive_message()
            .queue_url(self.queue_url)
            .max_number_of_messages(10)
            .visibility_timeout(i32::try_from(HIDDEN.as_secs()).unwrap_or(i32::MAX))
            // A long poll asks all of SQS's servers, so an empty answer means an empty queue.
            .wait_time_seconds(1)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .map_err(explain("reading the dead letters"))?;
        let (new, again): (Vec<_>, Vec<_>) = received
            .messages
            .unwrap_or_default()
            .into_iter()
            .partition(|message| message.message_id().is_some_and(|id| self.seen.insert(id.to_owned())));
        // The walk has seen it before: it takes longer than messages stay hidden.
        again.into_iter().for_each(|message| self.keep(message));
        Ok(new)
    }

    /// Leaves a message in the queue.
    pub(crate) fn keep(&mut self, message: Message) {
        self.kept.extend(message.receipt_handle);
    }

    /// Makes the messages that stay in the queue visible again.
    pub(crate) async fn put_back(self) -> Result<()> {
        for receipts in self.kept.chunks(BATCH) {
            let entries = receipts.iter().enumerate().map(|(n, receipt)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(n.to_string()).receipt_handle(receipt);
                entry.visibility_timeout(0).build()
            });
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let request = self.client.change_message_visibility_batch().queue_url(self.queue_url);
            request.set_entries(Some(entries)).send().await.map_err(explain("putting the dead letters back"))?;
        }
        Ok(())
    }
}
