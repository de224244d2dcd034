//! The catalog's index by arrival: an institute's partitions of it, and how they are read as one list.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{MessageId, Source, Timestamp};

/// The index of an institute's records by time of arrival (`infra/core.yaml`).
pub const INDEX: &str = "by-arrival";

/// Its partition key, an attribute of each record: the institute, `#` and a number below [`SHARDS`].
pub const SHARD: &str = "arrival_shard";

/// The number of an institute's partitions. A partition takes 1,000 write units a second, a message two of them, and times of arrival
/// rise, so DynamoDB cannot split a partition for them. The roles of users name each partition (`infra/`), so the number cannot change
/// without them.
pub const SHARDS: usize = 4;

/// The partition that a message's record is in: `west#2`. No institute's name has a `#`, so no partition is another institute's.
pub fn shard(source: &Source, message_id: &MessageId) -> String {
    let digit = message_id.as_str().chars().next().and_then(|it| it.to_digit(16)).unwrap_or_default();
    format!("{source}#{}", digit as usize % SHARDS)
}

/// All partitions of an institute.
pub fn shards(source: &str) -> [String; SHARDS] {
    std::array::from_fn(|n| format!("{source}#{n}"))
}

/// The place of a record in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrival {
    /// When the message first arrived.
    pub received_at: Timestamp,
    /// The message.
    pub message_id: MessageId,
}

impl Arrival {
    /// The attributes that a query begins after: the keys of index and table.
    pub fn key(&self, source: &Source) -> [(&'static str, String); 4] {
        [
            (SHARD, shard(source, &self.message_id)),
            ("received_at", self.received_at.to_string()),
            ("source", source.to_string()),
            ("message_id", self.message_id.to_string()),
        ]
    }
}

/// How far a partition has been read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// Nothing has been read.
    #[default]
    Start,
    /// This is the last record that was read.
    After(Arrival),
    /// Everything has been read.
    End,
}

/// The order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The last arrival first.
    NewestFirst,
    /// The first arrival first.
    OldestFirst,
}

/// Joins what is read from partitions, each in the order of arrival, to one list in that order. Records of the same millisecond come
/// partition by partition. However often the list is broken off at [`Merge::reached`] and continued there, it is the same list.
#[derive(Debug)]
pub struct Merge<T> {
    order: Order,
    partitions: Vec<Partition<T>>,
}

#[derive(Debug)]
struct Partition<T> {
    /// How far its records were given away.
    given: Reached,
    /// How far it was read.
    read: Reached,
    /// What was read and not given away.
    waiting: VecDeque<(Arrival, T)>,
}

impl<T> Merge<T> {
    /// A list of all partitions of an institute from the beginning.
    pub fn of_all(order: Order) -> Self {
        Self::from(vec![Reached::Start; SHARDS], order)
    }

    /// The rest of a list.
    pub fn from(reached: Vec<Reached>, order: Order) -> Self {
        let partition = |reached: Reached| Partition { given: reached.clone(), read: reached, waiting: VecDeque::new() };
        Self { order, partitions: reached.into_iter().map(partition).collect() }
    }

    /// The partitions to read from next, and after which record: those of which no record waits.
    pub fn due(&self) -> Vec<(usize, Option<Arrival>)> {
        let after = |partition: &Partition<T>| match &partition.read {
            _ if !partition.waiting.is_empty() => None,
            Reached::Start => Some(None),
            Reached::After(last) => Some(Some(last.clone())),
            Reached::End => None,
        };
        self.partitions.iter().enumerate().filter_map(|(n, partition)| Some((n, after(partition)?))).collect()
    }

    /// Adds what was read from a partition, in order, and the last record looked at if the partition has more.
    pub fn add(&mut self, number: usize, found: impl IntoIterator<Item = (Arrival, T)>, reached: Option<Arrival>) {
        let Some(partition) = self.partitions.get_mut(number) else { return };
        if partition.waiting.is_empty() {
            // All that was read before has been given away or passed over.
            partition.given = partition.read.clone();
        }
        partition.waiting.extend(found);
        partition.read = reached.map_or(Reached::End, Reached::After);
    }

    /// The next record of the list. `None` if partitions must be read before it is known, and at the end.
    pub fn pop(&mut self) -> Option<T> {
        let order = self.order;
        let heads =
            self.partitions.iter().enumerate().filter_map(|(n, partition)| Some((n, partition.waiting.front()?.0.received_at)));
        let (first, at) = heads.reduce(|one, other| if order.is_before(other.1, one.1) { other } else { one })?;
        // What is not read yet of another partition may come earlier.
        let is_unknown = |(n, partition): (usize, &Partition<T>)| match &partition.read {
            _ if !partition.waiting.is_empty() => false,
            Reached::Start => true,
            Reached::After(last) => order.is_before(last.received_at, at) || (last.received_at == at && n < first),
            Reached::End => false,
        };
        if self.partitions.iter().enumerate().any(is_unknown) {
            return None;
        }
        let partition = self.partitions.get_mut(first)?;
        let (arrival, record) = partition.waiting.pop_front()?;
        partition.given = Reached::After(arrival);
        Some(record)
    }

    /// Whether a record was read and not given away.
    pub fn is_waiting(&self) -> bool {
        self.partitions.iter().any(|partition| !partition.waiting.is_empty())
    }

    /// Where the list goes on after the records given away, for each partition; `None` at its end.
    pub fn reached(&self) -> Option<Vec<Reached>> {
        let reached = |partition: &Partition<T>| {
            if partition.waiting.is_empty() { partition.read.clone() } else { partition.given.clone() }
        };
        let reached: Vec<_> = self.partitions.iter().map(reached).collect();
        reached.iter().any(|it| *it != Reached::End).then_some(reached)
    }
}

impl Order {
    fn is_before(self, one: Timestamp, other: Timestamp) -> bool {
        match self {
            Self::NewestFirst => one > other,
            Self::OldestFirst => one < other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(n: i64) -> Arrival {
        // Three to a millisecond.
        let received_at = Timestamp::from_millis(1_795_245_667_120 + n / 3).unwrap();
        Arrival { received_at, message_id: MessageId::of_canonical(&n.to_be_bytes()) }
    }

    #[test]
    fn a_message_is_always_in_the_same_partition_of_its_institute_and_messages_are_spread() {
        let west: Source = "west".parse().unwrap();
        let mut counts = [0; SHARDS];
        for n in 0..4000 {
            let shard = shard(&west, &arrival(n).message_id);
            counts[shards("west").iter().position(|it| *it == shard).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (900..1100).contains(count)), "{counts:?}");
    }

    #[test]
    fn no_partition_is_an_institutes_name_or_another_institutes() {
        let names = ["west", "west.0", "west-0", "west_0", "west0", "w", "West"];
        let all: Vec<String> = names.iter().flat_map(|it| shards(it)).collect();
        for (n, shard) in all.iter().enumerate() {
            assert!(shard.parse::<Source>().is_err(), "{shard}");
            assert!(!all[n + 1..].contains(shard), "{shard}");
        }
    }

    /// Reads a list of 200 in pages, broken off after each. `selected` of 7 records are looked for, and each read looks at `evaluated`.
    fn pages(order: Order, page: usize, evaluated: usize, selected: i64) -> Vec<i64> {
        let west: Source = "west".parse().unwrap();
        let mut partitions = vec![Vec::new(); SHARDS];
        for n in 0..200 {
            let shard = shard(&west, &arrival(n).message_id);
            partitions[shards("west").iter().position(|it| *it == shard).unwrap()].push(n);
        }
        if order == Order::NewestFirst {
            partitions.iter_mut().for_each(|it| it.reverse());
        }
        let (mut list, mut reached) = (Vec::new(), Some(vec![Reached::Start; SHARDS]));
        while let Some(from) = reached {
            // As a cursor.
            let from = serde_json::from_str(&serde_json::to_string(&from).unwrap()).unwrap();
            let (mut merge, mut taken) = (Merge::from(from, order), 0);
            while taken < page && merge.reached().is_some() {
                for (n, after) in merge.due() {
                    let start = after.map_or(0, |it| partitions[n].iter().position(|n| arrival(*n) == it).unwrap() + 1);
                    let looked_at = &partitions[n][start..(start + evaluated).min(partitions[n].len())];
                    let last = (start + looked_at.len() < partitions[n].len()).then(|| arrival(*looked_at.last().unwrap()));
                    merge.add(n, looked_at.iter().filter(|n| **n % 7 < selected).map(|n| (arrival(*n), *n)), last);
                }
                while taken < page
                    && let Some(n) = merge.pop()
                {
                    list.push(n);
                    taken += 1;
                }
            }
            reached = merge.reached();
        }
        list
    }

    #[test]
    fn a_list_of_partitions_has_every_record_once_and_in_order_however_it_is_cut() {
        for order in [Order::NewestFirst, Order::OldestFirst] {
            for (page, evaluated, selected) in
                [(1, 1, 7), (1, 3, 1), (10, 1, 3), (10, 11, 7), (50, 200, 7), (200, 7, 1), (7, 100, 0)]
            {
                let list = pages(order, page, evaluated, selected);
                assert_eq!(list, pages(order, 200, 200, selected), "{order:?} {page} {evaluated} {selected}");
                let times: Vec<_> = list.iter().map(|n| arrival(*n).received_at).collect();
                let is_in_order = times.windows(2).all(|it| !order.is_before(it[1], it[0]));
                assert!(is_in_order, "{order:?} {page} {evaluated}: {list:?}");
                let mut sorted = list;
                sorted.sort_unstable();
                let expected: Vec<i64> = (0..200).filter(|n| n % 7 < selected).collect();
                assert_eq!(sorted, expected, "{order:?} {page} {evaluated} {selected}");
            }
        }
    }

    #[test]
    fn a_first_read_of_a_page_from_every_partition_is_enough_for_the_page() {
        let mut merge = Merge::of_all(Order::NewestFirst);
        assert_eq!(merge.due().len(), SHARDS);
        for n in 0..SHARDS {
            let found = (0..10).rev().map(|i| arrival(i * 4 + i64::try_from(n).unwrap()));
            let last = found.clone().next_back();
            merge.add(n, found.map(|it| (it, ())), last);
        }
        let mut taken = 0;
        while merge.pop().is_some() {
            taken += 1;
        }
        assert!(taken >= 10, "{taken}");
    }
}
