//! Follows a message through the structure of its type, as far as it can.

use std::collections::HashMap;
use std::slice::from_ref;

use crate::dictionary::{Item, Node, Structure};

/// Where a message is in its structure: the places that are open, each within the one before it.
pub(super) struct Order<'a> {
    root: &'a [Item],
    /// Never empty.
    open: Vec<Frame<'a>>,
    /// The last segment of the message with each id.
    last: HashMap<&'static str, usize>,
    /// Segments that have no place from here on. Emptied by each step.
    stuck: HashMap<&'static str, Step>,
    /// Segments that came before their place. They are not missing there.
    early: Vec<&'static str>,
    /// How many places were looked at.
    pub(super) work: u64,
}

/// The items of a group, and which of them is the latest.
#[derive(Clone, Copy)]
struct Frame<'a> {
    items: &'a [Item],
    at: Option<usize>,
}

impl<'a> Frame<'a> {
    /// Those behind the latest, with their indices.
    fn ahead(&self) -> impl Iterator<Item = (usize, &'a Item)> + use<'a> {
        self.items.iter().enumerate().skip(self.at.map_or(0, |it| it + 1))
    }
}

/// What became of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has its place. These should have stood before it.
    Placed {
        /// Segments, each the first of what is missing.
        missing: Vec<&'static str>,
    },
    /// The structure has it, but not here.
    Misplaced,
    /// The structure does not have it.
    Unexpected,
}

/// A place ahead: the frame it is in, the item there, and how many demanded items lie between.
struct Candidate {
    depth: usize,
    item: usize,
    skipped: usize,
}

impl<'a> Order<'a> {
    /// `last` has the number of the last segment with each id.
    pub(super) fn of(structure: &'a Structure, last: HashMap<&'static str, usize>) -> Self {
        let root = structure.items.as_slice();
        Self { root, open: vec![Frame { items: root, at: None }], last, stuck: HashMap::new(), early: Vec::new(), work: 0 }
    }

    /// The next segment, which has this number. Of the places it may have, it takes the one that leaves out the fewest
    /// segments that must be there, and of these the nearest.
    pub(super) fn step(&mut self, id: &'static str, number: usize) -> Step {
        if let Some(known) = self.stuck.get(id) {
            return known.clone();
        }
        let Some(found) = self.find(id, false).or_else(|| self.find(id, true)) else {
            let somewhere = self.root.iter().any(|it| self.cost(it, id, false).is_some());
            let step = if somewhere { Step::Misplaced } else { Step::Unexpected };
            self.stuck.insert(id, step.clone());
            return step;
        };
        let Some(frame) = self.open.get(found.depth).copied() else { return Step::Unexpected };
        let ahead = frame.ahead().take_while(|(index, _)| *index < found.item).filter_map(|(_, it)| demanded(it));
        let mut jumped: Vec<&'static str> = ahead.collect();
        let mut inside = Vec::new();
        if let Some(item) = frame.items.get(found.item) {
            self.descend(item, id, &mut inside, &mut jumped);
        }
        // It came too early, if what it jumps over is still to come: they are not missing, and it is misplaced.
        if jumped.iter().any(|it| self.last.get(it).is_some_and(|last| *last > number)) {
            if !self.early.contains(&id) {
                self.early.push(id);
            }
            return Step::Misplaced;
        }
        let closed = self.open.iter().skip(found.depth + 1).rev();
        let mut missing: Vec<_> = closed.flat_map(|it| it.ahead()).filter_map(|(_, it)| demanded(it)).collect();
        missing.append(&mut jumped);
        missing.retain(|it| !self.early.contains(it));
        self.open.truncate(found.depth + 1);
        if let Some(frame) = self.open.last_mut() {
            frame.at = Some(found.item);
        }
        self.open.append(&mut inside);
        self.stuck.clear();
        Step::Placed { missing }
    }

    /// What should have followed the last segment.
    pub(super) fn finish(&self) -> Vec<&'static str> {
        let missing = self.open.iter().rev().flat_map(|it| it.ahead()).filter_map(|(_, it)| demanded(it));
        missing.filter(|it| !self.early.contains(it)).collect()
    }

    fn find(&mut self, id: &str, any: bool) -> Option<Candidate> {
        let mut best: Option<Candidate> = None;
        let mut closing = 0;
        for depth in (0..self.open.len()).rev() {
            let frame = self.open.get(depth).copied()?;
            let again = frame.at.and_then(|at| Some((at, frame.items.get(at).filter(|it| it.repeats)?)));
            let mut skipped = closing;
            for (index, item) in again.into_iter().chain(frame.ahead()) {
                if let Some(cost) = self.cost(item, id, any) {
                    let skipped = skipped + cost;
                    if best.as_ref().is_none_or(|best| skipped < best.skipped) {
                        best = Some(Candidate { depth, item: index, skipped });
                    }
                }
                if best.as_ref().is_some_and(|best| best.skipped <= skipped) {
                    break;
                }
                if frame.at != Some(index) {
                    skipped += usize::from(demanded(item).is_some());
                }
            }
            closing += frame.ahead().filter(|(_, it)| demanded(it).is_some()).count();
            if best.as_ref().is_some_and(|best| best.skipped <= closing) {
                break;
            }
        }
        best
    }

    /// How many demanded items an item has before this segment. `None`: it does not have it.
    fn cost(&mut self, item: &Item, id: &str, any: bool) -> Option<usize> {
        self.work += 1;
        match &item.node {
            Node::Segment(here) => (*here == id).then_some(0),
            Node::Any => any.then_some(0),
            Node::Group { items, .. } => {
                let mut skipped = 0;
                let mut best: Option<usize> = None;
                for item in items {
                    let here = self.cost(item, id, any).map(|it| it + skipped);
                    best = best.into_iter().chain(here).min();
                    skipped += usize::from(demanded(item).is_some());
                }
                best
            }
            Node::Choice(options) => options.iter().filter_map(|it| self.cost(it, id, any)).min(),
        }
    }

    /// Opens the way from an item down to a segment that it has.
    fn descend(&mut self, item: &'a Item, id: &str, way: &mut Vec<Frame<'a>>, missing: &mut Vec<&'static str>) {
        let (items, choice) = match &item.node {
            Node::Segment(_) | Node::Any => return,
            Node::Group { items, .. } => (items.as_slice(), false),
            Node::Choice(options) => (options.as_slice(), true),
        };
        let mut nearest = |any| {
            let mut skipped = 0;
            let mut best: Option<(usize, usize, &'a Item)> = None;
            for (index, item) in items.iter().enumerate() {
                if let Some(cost) = self.cost(item, id, any).map(|it| it + skipped)
                    && best.is_none_or(|(best, ..)| cost < best)
                {
                    best = Some((cost, index, item));
                }
                skipped += usize::from(!choice && demanded(item).is_some());
            }
            best
        };
        let best = nearest(false).or_else(|| nearest(true));
        let Some((_, at, inner)) = best else { return };
        if choice {
            way.push(Frame { items: from_ref(inner), at: Some(0) });
        } else {
            missing.extend(items.iter().take(at).filter_map(demanded));
            way.push(Frame { items, at: Some(at) });
        }
        self.descend(inner, id, way, missing);
    }
}

/// The segment that is missing when an item is. `None`: it may be left out, or nothing in it must be there.
fn demanded(item: &Item) -> Option<&'static str> {
    if !item.required {
        return None;
    }
    match &item.node {
        Node::Segment(id) => Some(id),
        Node::Any => None,
        Node::Group { items, .. } => items.iter().find_map(demanded),
        Node::Choice(options) => options.first().and_then(demanded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dictionary;

    /// The segments with what is wrong with them: `!` misplaced, `?` unexpected, and `-X` for a missing X.
    fn follow(version: &str, structure: &str, segments: &str) -> String {
        let structure = Dictionary::of(version).structure(structure).unwrap();
        let id = |text: &str| Dictionary::of("2.8.2").segment(text).unwrap().id;
        let ids: Vec<&'static str> = segments.split(' ').map(id).collect();
        let last = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let mut order = Order::of(&structure, last);
        let mut out = Vec::new();
        for (number, id) in ids.into_iter().enumerate() {
            match order.step(id, number) {
                Step::Placed { missing } => {
                    out.extend(missing.iter().map(|it| format!("-{it}")));
                    out.push(id.to_owned());
                }
                Step::Misplaced => out.push(format!("{id}!")),
                Step::Unexpected => out.push(format!("{id}?")),
            }
        }
        out.extend(order.finish().iter().map(|it| format!("-{it}")));
        out.join(" ")
    }

    #[test]
    fn a_message_as_its_structure_has_it_is_followed_to_its_end() {
        let good = [
            ("2.5.1", "ACK", "MSH SFT SFT MSA ERR ERR"),
            ("2.5.1", "ADT_A01", "MSH EVN PID PD1 NK1 NK1 PV1 PV2 OBX AL1 DG1 PR1 ROL PR1 GT1 IN1 IN2 IN1"),
            ("2.5.1", "ORU_R01", "MSH PID NTE PV1 ORC OBR NTE OBX NTE OBX OBX SPM OBX ORC OBR OBX OBR OBX PID OBR OBX DSC"),
            ("2.5.1", "VXU_V04", "MSH PID PD1 NK1 PV1 ORC RXA RXR OBX OBX ORC RXA"),
            ("2.3", "ORM_O01", "MSH PID PV1 ORC OBR NTE DG1 OBX OBX ORC RXO ORC"),
            ("2.5.1", "SIU_S12", "MSH SCH PID PV1 RGS AIS AIL AIP AIP RGS AIG"),
            ("2.5", "MFN_M01", "MSH MFI MFE PID MFE STF"),
        ];
        for (version, structure, segments) in good {
            assert_eq!(follow(version, structure, segments), segments, "{structure} of {version}");
        }
    }

    #[test]
    fn what_is_missing_is_named_where_it_should_have_stood() {
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH PID PV1"), "MSH -EVN PID PV1");
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH EVN PID"), "MSH EVN PID -PV1");
        assert_eq!(follow("2.5.1", "ORU_R01", "MSH PID ORC OBX OBX"), "MSH PID ORC -OBR OBX OBX");
        assert_eq!(follow("2.5.1", "ORU_R01", "MSH PID"), "MSH PID -OBR");
        assert_eq!(follow("2.5.1", "VXU_V04", "MSH PID ORC ORC RXA"), "MSH PID ORC -RXA ORC RXA");
        assert_eq!(follow("2.3", "ORM_O01", "MSH ORC NTE"), "MSH ORC -OBR NTE");
        assert_eq!(follow("2.5.1", "ACK", "MSH"), "MSH -MSA");
    }

    #[test]
    fn a_segment_without_a_place_is_passed_over() {
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH EVN PID PV1 PV1 AL1"), "MSH EVN PID PV1 PV1! AL1");
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH EVN PV1 PID AL1"), "MSH EVN PV1! PID AL1");
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH EVN PID PV1 IN1 GT1 IN1"), "MSH EVN PID PV1 IN1 GT1! IN1");
        assert_eq!(follow("2.5.1", "ADT_A01", "MSH EVN PID RXA PV1"), "MSH EVN PID RXA? PV1");
        assert_eq!(follow("2.5.1", "ORU_R01", "MSH PID OBX OBR OBX"), "MSH PID OBX! OBR OBX");
    }

    #[test]
    fn the_work_of_a_segment_does_not_grow_with_the_message() {
        let structure = Dictionary::of("2.8.2").structure("CCR_I16").unwrap();
        let mut order = Order::of(&structure, HashMap::new());
        for number in 0..2000 {
            order.step(["PID", "OBX", "PV1", "MSH", "ROL"].get(number % 5).unwrap(), number);
        }
        assert!(order.work < 2000 * 4000, "{} places", order.work);
    }
}
