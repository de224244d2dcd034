//! Follows a message through the structure of its type, as far as it can.

use std::cell::{Cell, LazyCell};
use std::collections::HashMap;

use crate::dictionary::{Places, Reach};

/// The last segment of a message with each id, found when it is needed.
type Last<'a> = LazyCell<HashMap<&'static str, usize>, Box<dyn FnOnce() -> HashMap<&'static str, usize> + 'a>>;

/// The position of a message in its structure.
pub(super) struct Order<'a> {
    places: &'a Places,
    /// The places where the latest segment may stand, the most likely first. Never empty.
    current: Vec<usize>,
    /// Scratch: the places of the next segment, and the step in which each place was last found.
    next: Vec<usize>,
    found: Vec<u64>,
    step: u64,
    last: Last<'a>,
    /// Segments that have no place from here on. Each successful step empties it.
    stuck: HashMap<&'static str, Step>,
    /// Segments that came before their place. They do not count as missing there.
    early: Vec<&'static str>,
    /// The number of places visited.
    pub(super) work: u64,
}

/// The result for a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It has a place. These segments are missing before it.
    Placed {
        /// The first segment of each missing item.
        missing: Vec<&'static str>,
    },
    /// The structure has it, but not here.
    Misplaced,
    /// The structure does not have it.
    Unexpected,
}

impl<'a> Order<'a> {
    /// `last` gives the number of the last segment with each id.
    pub(super) fn of(places: &'a Places, last: impl FnOnce() -> HashMap<&'static str, usize> + 'a) -> Self {
        let last: Box<dyn FnOnce() -> HashMap<&'static str, usize> + 'a> = Box::new(last);
        Self {
            places,
            current: vec![0],
            next: Vec::new(),
            found: vec![0; places.len()],
            step: 0,
            last: LazyCell::new(last),
            stuck: HashMap::new(),
            early: Vec::new(),
            work: 0,
        }
    }

    /// Takes the next segment, which has this number.
    pub(super) fn step(&mut self, id: &'static str, number: usize) -> Step {
        if !self.stuck.is_empty()
            && let Some(known) = self.stuck.get(id)
        {
            return known.clone();
        }
        self.step += 1;
        self.next.clear();
        for place in &self.current {
            for follows in self.places.following(*place, id) {
                self.work += 1;
                if let Some(found) = self.found.get_mut(follows)
                    && std::mem::replace(found, self.step) != self.step
                {
                    self.next.push(follows);
                }
            }
        }
        if self.next.is_empty() {
            return self.leave_out(id, number);
        }
        std::mem::swap(&mut self.current, &mut self.next);
        self.stuck.clear();
        Step::Placed { missing: Vec::new() }
    }

    /// Takes a segment that may not follow the last one. Among its possible places, it takes those that skip the fewest required
    /// segments.
    fn leave_out(&mut self, id: &'static str, number: usize) -> Step {
        let candidates = self.nearest(id, false).or_else(|| self.nearest(id, true));
        let Some((from, reach)) = candidates.as_ref().and_then(|it| it.first()).copied() else {
            let step = if self.places.has(id) { Step::Misplaced } else { Step::Unexpected };
            self.stuck.insert(id, step.clone());
            return step;
        };
        let mut jumped = self.places.demanded_before(from, reach);
        // It came too early if the skipped segments are still to come: then it is misplaced, and they are not missing.
        if jumped.iter().any(|it| self.last.get(it).is_some_and(|last| *last > number)) {
            if !self.early.contains(&id) {
                self.early.push(id);
            }
            return Step::Misplaced;
        }
        let mut missing: Vec<_> = self.places.demanded_behind(from, reach.depth + 1).collect();
        missing.append(&mut jumped);
        missing.retain(|it| !self.early.contains(it));
        self.current = candidates.into_iter().flatten().map(|(_, it)| it.place).collect();
        self.current.sort_unstable();
        self.current.dedup();
        // The one that was reported comes first.
        if let Some(at) = self.current.iter().position(|it| *it == reach.place) {
            self.current.swap(0, at);
        }
        self.stuck.clear();
        Step::Placed { missing }
    }

    /// The places of a segment that skip the fewest items, each with the place it is ahead of. `None` if there are none.
    fn nearest(&mut self, id: &str, any: bool) -> Option<Vec<(usize, Reach)>> {
        let mut all: Vec<(usize, Reach)> = Vec::new();
        let fewest = Cell::new(usize::MAX);
        for place in &self.current {
            self.work += self.places.len() as u64;
            self.places.reachable(*place, id, any, &fewest, &mut all);
        }
        let fewest = all.iter().map(|(_, it)| it.skipped).min()?;
        all.retain(|(_, it)| it.skipped == fewest);
        Some(all)
    }

    /// The segments that are missing after the last one.
    pub(super) fn finish(&self) -> Vec<&'static str> {
        let missing = self.current.iter().map(|place| {
            let demanded = self.places.demanded_behind(*place, 0);
            demanded.filter(|it| !self.early.contains(it)).collect::<Vec<_>>()
        });
        missing.min_by_key(Vec::len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dictionary;

    /// The segments with their findings: `!` misplaced, `?` unexpected, and `-X` for a missing X.
    fn follow(version: &str, structure: &str, segments: &str) -> String {
        let (_, places) = Dictionary::of(version).places(structure).unwrap();
        let id = |text: &str| Dictionary::of("2.8.2").segment(text).unwrap().id;
        let ids: Vec<&'static str> = segments.split(' ').map(id).collect();
        let last = ids.iter().enumerate().map(|(number, id)| (*id, number)).collect();
        let mut order = Order::of(places, || last);
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
    fn a_missing_segment_is_named_where_it_should_have_stood() {
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
        let (_, places) = Dictionary::of("2.8.2").places("CCR_I16").unwrap();
        let mut order = Order::of(places, HashMap::new);
        for number in 0..2000 {
            order.step(["PID", "OBX", "PV1", "MSH", "ROL"].get(number % 5).unwrap(), number);
        }
        assert!(order.work < 2000 * 4000, "{} places", order.work);
    }
}
