//! The places of a structure, and which of them may follow which.
//!
//! A segment may have several places in a structure: in OML_O21 an ORC begins the next order, or an earlier result of this one. So a walk
//! keeps every place where the last segment may stand, as a regular expression is matched without going back: each segment costs a bounded
//! number of steps, and no choice is made before the message decides it.

use std::cell::Cell;

use super::structure::{Item, Node, Structure};

/// A structure prepared for walks. Place 0 is the beginning of a message.
#[derive(Debug)]
pub(crate) struct Places {
    /// The lists of items: the root, the groups, and each option of a choice.
    lists: Vec<Vec<Entry>>,
    /// For each list, the ids that it has at any depth: bit n stands for n, n + 128 and so on.
    within: Vec<u128>,
    places: Vec<Place>,
    /// The ids that have a place, sorted.
    ids: Vec<&'static str>,
}

/// A place that a walk can reach from another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) place: usize,
    /// One less than the number of levels of the earlier place that stay open.
    pub(crate) depth: usize,
    /// The number of required items between the two places.
    pub(crate) skipped: usize,
}

#[derive(Debug)]
struct Place {
    /// Index into `ids`; `ids.len()` for any segment.
    id: u16,
    /// The way from the root to the place: which list, and which entry in it. The beginning has no entry.
    way: Vec<(usize, Option<usize>)>,
    /// The places that may follow without a missing item in between, as id and place, sorted by id; with the same id, the nearest
    /// first.
    follow: Vec<(u16, u16)>,
}

#[derive(Debug)]
struct Entry {
    /// The segment that is missing if the entry is. `None` if the entry is optional, or contains nothing required.
    demanded: Option<&'static str>,
    repeats: bool,
    node: EntryNode,
}

#[derive(Debug)]
enum EntryNode {
    Place(usize),
    /// The list of a group, or one list for each option of a choice.
    Lists(Vec<usize>),
}

/// The bit of an id in `within`.
fn bit(id: usize) -> u128 {
    1 << (id % 128)
}

/// The segment that is missing if an item is.
fn demanded(item: &Item) -> Option<&'static str> {
    if !item.required {
        return None;
    }
    match &item.node {
        Node::Segment(id) => Some(id),
        Node::Any => None,
        Node::Group { items, .. } => items.iter().find_map(demanded),
        // If one option may be empty, nothing is required.
        Node::Choice(options) => options.iter().map(demanded).collect::<Option<Vec<_>>>()?.first().copied(),
    }
}

impl Places {
    /// Prepares a structure. `None` if it has more places than any structure of HL7.
    pub(super) fn of(structure: &Structure) -> Option<Self> {
        let mut ids = Vec::new();
        let mut items: Vec<&Item> = structure.items.iter().collect();
        while let Some(item) = items.pop() {
            match &item.node {
                Node::Segment(id) => ids.push(*id),
                Node::Any => {}
                Node::Group { items: inside, .. } | Node::Choice(inside) => items.extend(inside),
            }
        }
        ids.sort_unstable();
        ids.dedup();
        let beginning = Place { id: u16::try_from(ids.len()).ok()?, way: vec![(0, None)], follow: Vec::new() };
        let mut all = Self { lists: Vec::new(), within: Vec::new(), places: vec![beginning], ids };
        all.list(&structure.items, &[])?;
        for place in 0..all.places.len() {
            let mut follow: Vec<(u16, u16)> = Vec::new();
            all.ahead(place, u128::MAX, &Cell::new(0), |reach| {
                let found = all.places.get(reach.place).map(|it| it.id).zip(u16::try_from(reach.place).ok());
                follow.extend(found.filter(|it| !follow.contains(it)));
            });
            follow.sort_by_key(|(id, _)| *id);
            all.places.get_mut(place)?.follow = follow;
        }
        Some(all)
    }

    /// Adds a list of items, with everything in them.
    fn list(&mut self, items: &[Item], above: &[(usize, Option<usize>)]) -> Option<usize> {
        let list = self.lists.len();
        self.lists.push(Vec::new());
        self.within.push(0);
        for (at, item) in items.iter().enumerate() {
            let way = [above, &[(list, Some(at))]].concat();
            let node = match &item.node {
                Node::Segment(id) => EntryNode::Place(self.place(self.ids.binary_search(id).ok()?, way)?),
                Node::Any => EntryNode::Place(self.place(self.ids.len(), way)?),
                Node::Group { items, .. } => EntryNode::Lists(vec![self.list(items, &way)?]),
                Node::Choice(options) => {
                    let lists = options.chunks(1).map(|option| self.list(option, &way));
                    EntryNode::Lists(lists.collect::<Option<_>>()?)
                }
            };
            let entry = Entry { demanded: demanded(item), repeats: item.repeats, node };
            self.lists.get_mut(list)?.push(entry);
        }
        Some(list)
    }

    fn place(&mut self, id: usize, way: Vec<(usize, Option<usize>)>) -> Option<usize> {
        for (list, _) in &way {
            *self.within.get_mut(*list)? |= bit(id);
        }
        self.places.push(Place { id: u16::try_from(id).ok()?, way, follow: Vec::new() });
        Some(usize::from(u16::try_from(self.places.len() - 1).ok()?))
    }

    /// How many places there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a segment has a place of its own.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.ids.binary_search(&id).is_ok()
    }

    /// The places of a segment that may follow a place without a missing item in between; places that take any segment come last.
    pub(crate) fn following(&self, place: usize, id: &str) -> impl Iterator<Item = usize> {
        let follow = self.places.get(place).map(|it| it.follow.as_slice()).unwrap_or_default();
        let of = |id: usize| {
            let start = follow.partition_point(|it| usize::from(it.0) < id);
            follow.get(start..).unwrap_or_default().iter().take_while(move |it| usize::from(it.0) == id)
        };
        let own = self.ids.binary_search(&id).ok().map(of);
        own.into_iter().flatten().chain(of(self.ids.len())).map(|it| usize::from(it.1))
    }

    /// Adds the places of a segment that are ahead of a place and skip at most `most` required items, the nearest first; with
    /// `any`, the places that take any segment. Lowers `most` to the fewest items that one of them skips.
    pub(crate) fn reachable(&self, place: usize, id: &str, any: bool, most: &Cell<usize>, found: &mut Vec<(usize, Reach)>) {
        let wanted = if any { self.ids.len() } else { self.ids.binary_search(&id).unwrap_or(usize::MAX) };
        self.ahead(place, bit(wanted), most, |reach| {
            if self.places.get(reach.place).is_some_and(|it| usize::from(it.id) == wanted) {
                most.set(most.get().min(reach.skipped));
                found.push((place, reach));
            }
        });
    }

    /// Calls `found` with each place ahead of a place that skips at most `most` required items. Ignores lists that, by `within`,
    /// contain none of the `ids`.
    fn ahead(&self, place: usize, ids: u128, most: &Cell<usize>, mut found: impl FnMut(Reach)) {
        let Some(way) = self.places.get(place).map(|it| &it.way) else { return };
        let mut closing = 0;
        for (depth, (list, at)) in way.iter().enumerate().rev() {
            let Some(entries) = self.lists.get(*list) else { return };
            let again = at.and_then(|at| entries.get(at)).filter(|it| it.repeats);
            if let Some(entry) = again {
                self.enter(entry, depth, closing, (ids, most), &mut found);
            }
            for entry in entries.iter().skip(at.map_or(0, |it| it + 1)) {
                self.enter(entry, depth, closing, (ids, most), &mut found);
                closing += usize::from(entry.demanded.is_some());
                if closing > most.get() {
                    return;
                }
            }
        }
    }

    fn enter(
        &self,
        entry: &Entry,
        depth: usize,
        skipped: usize,
        (ids, most): (u128, &Cell<usize>),
        found: &mut impl FnMut(Reach),
    ) {
        let lists = match &entry.node {
            EntryNode::Place(place) => return found(Reach { place: *place, depth, skipped }),
            EntryNode::Lists(lists) => lists,
        };
        let has_one = |list: &&usize| self.within.get(**list).is_some_and(|it| it & ids != 0);
        for entries in lists.iter().filter(has_one).filter_map(|it| self.lists.get(*it)) {
            let mut skipped = skipped;
            for entry in entries {
                if skipped > most.get() {
                    break;
                }
                self.enter(entry, depth, skipped, (ids, most), found);
                skipped += usize::from(entry.demanded.is_some());
            }
        }
    }

    /// The required items after a place within the levels below a depth, the innermost first.
    pub(crate) fn demanded_behind(&self, place: usize, depth: usize) -> impl Iterator<Item = &'static str> {
        let way = self.places.get(place).map(|it| it.way.as_slice()).unwrap_or_default();
        let levels = way.iter().skip(depth).rev().filter_map(|(list, at)| Some((self.lists.get(*list)?, at)));
        levels.flat_map(|(entries, at)| entries.iter().skip(at.map_or(0, |it| it + 1)).filter_map(|it| it.demanded))
    }

    /// The required items between a place and one ahead of it, without those that close the levels below their common one.
    pub(crate) fn demanded_before(&self, place: usize, reach: Reach) -> Vec<&'static str> {
        let way = |place: usize| self.places.get(place).map(|it| it.way.as_slice()).unwrap_or_default();
        let before = way(place).get(reach.depth).and_then(|it| it.1).map_or(0, |it| it + 1);
        let levels = way(reach.place).iter().enumerate().skip(reach.depth);
        let demanded = levels.flat_map(|(depth, (list, at))| {
            let entries = self.lists.get(*list).map(Vec::as_slice).unwrap_or_default();
            let from = if depth == reach.depth { before } else { 0 };
            entries.get(from..at.unwrap_or_default()).unwrap_or_default().iter().filter_map(|it| it.demanded)
        });
        demanded.collect()
    }
}
