//! A queue that is fair among its groups, as SQS is: a group is noisy while more than a tenth of what is in flight is its own, and at least
//! thirty messages; what waits of the other groups goes first ("Amazon SQS fair queues").

use std::collections::VecDeque;

/// The least number of messages in flight that makes a group noisy.
const NOISY_MESSAGES: u32 = 30;
/// The share of all messages in flight that makes a group noisy.
const NOISY_SHARE: f64 = 0.1;

/// A fair queue. Messages and groups are numbers.
#[derive(Debug)]
pub(crate) struct FairQueue {
    waiting: Vec<VecDeque<u32>>,
    in_flight: Vec<u32>,
    all_in_flight: u32,
    quiet: VecDeque<u32>,
    noisy: VecDeque<u32>,
    length: usize,
}

impl FairQueue {
    pub(crate) fn new(groups: u32) -> Self {
        Self {
            waiting: (0..groups).map(|_| VecDeque::new()).collect(),
            in_flight: (0..groups).map(|_| 0).collect(),
            all_in_flight: 0,
            quiet: VecDeque::new(),
            noisy: VecDeque::new(),
            length: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn push(&mut self, group: u32, message: u32) {
        let Some(waiting) = self.waiting.get_mut(group as usize) else { return };
        if waiting.is_empty() {
            self.quiet.push_back(group);
        }
        waiting.push_back(message);
        self.length += 1;
    }

    fn is_noisy(&self, group: u32) -> bool {
        let own = self.in_flight.get(group as usize).copied().unwrap_or(0);
        own >= NOISY_MESSAGES && f64::from(own) > NOISY_SHARE * f64::from(self.all_in_flight)
    }

    /// Takes the next message, which is in flight from now on.
    pub(crate) fn pop(&mut self) -> Option<u32> {
        while let Some(group) = self.quiet.pop_front() {
            if self.is_noisy(group) {
                self.noisy.push_back(group);
                continue;
            }
            return self.take(group);
        }
        let group = self.noisy.pop_front()?;
        self.take(group)
    }

    fn take(&mut self, group: u32) -> Option<u32> {
        let waiting = self.waiting.get_mut(group as usize)?;
        let message = waiting.pop_front()?;
        let is_empty = waiting.is_empty();
        self.length -= 1;
        self.all_in_flight += 1;
        if let Some(own) = self.in_flight.get_mut(group as usize) {
            *own += 1;
        }
        if !is_empty {
            self.quiet.push_back(group);
        }
        Some(message)
    }

    /// A message of a group is no longer in flight.
    pub(crate) fn done(&mut self, group: u32) {
        self.all_in_flight = self.all_in_flight.saturating_sub(1);
        if let Some(own) = self.in_flight.get_mut(group as usize) {
            *own = own.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_backlog_waits_behind_the_others() {
        let mut queue = FairQueue::new(2);
        (0..1000).for_each(|message| queue.push(0, message));
        (0..100).for_each(|_| assert!(queue.pop().is_some()));
        queue.push(1, 5000);
        assert_eq!((queue.pop(), queue.len()), (Some(5000), 900));
        (0..900).for_each(|_| assert!(queue.pop().is_some_and(|message| message < 1000)));
        assert_eq!((queue.pop(), queue.len()), (None, 0));
    }
}
