//! The sandboxes of the functions: idle ones, busy ones, and how many run at once.

use std::collections::{BTreeSet, VecDeque};

use crate::quota::Bucket;
use crate::scenario::Step;

/// Lambda ends a sandbox that has been idle for some minutes; AWS does not document the number.
const IDLE_SECONDS: f64 = 600.0;

/// Why there is no sandbox at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// All sandboxes of the account are busy.
    Concurrency,
    /// The function gets new sandboxes only at a limited rate.
    Scaling,
}

/// A sandbox that runs an invocation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: u32,
    pub(crate) is_new: bool,
}

#[derive(Debug, Default)]
struct Function {
    /// The idle sandboxes, and since when. The last one that became idle is used first.
    idle: VecDeque<(u32, f64)>,
    busy: u32,
    most: u32,
    made: u32,
    /// The number of sandboxes from before the beginning, which have met every institute.
    warm: u32,
    /// The institutes whose credentials each sandbox has.
    known: Vec<BTreeSet<u32>>,
}

/// The sandboxes of an account.
#[derive(Debug)]
pub(crate) struct Sandboxes {
    functions: Vec<Function>,
    scaling: Vec<Bucket>,
    limit: u32,
    busy: u32,
    pub(crate) most_busy: u32,
}

impl Sandboxes {
    pub(crate) fn new(limit: u32, scaling: Bucket) -> Self {
        let functions = Step::ALL.map(|_| Function::default());
        Self { functions: functions.into(), scaling: vec![scaling; Step::ALL.len()], limit, busy: 0, most_busy: 0 }
    }

    /// Gives a function idle sandboxes from before the beginning, which have met every institute.
    pub(crate) fn warm(&mut self, step: Step, count: u32) {
        if let Some(function) = self.functions.get_mut(step as usize) {
            for id in 0..count {
                function.known.push(BTreeSet::new());
                function.idle.push_back((id, 0.0));
            }
            (function.made, function.warm) = (count, count);
        }
    }

    pub(crate) fn take(&mut self, step: Step, now: f64) -> Result<Sandbox, Refused> {
        if self.busy >= self.limit {
            return Err(Refused::Concurrency);
        }
        let (Some(function), Some(scaling)) = (self.functions.get_mut(step as usize), self.scaling.get_mut(step as usize)) else {
            return Err(Refused::Concurrency);
        };
        while function.idle.front().is_some_and(|(_, since)| now - since > IDLE_SECONDS) {
            function.idle.pop_front();
        }
        let sandbox = match function.idle.pop_back() {
            Some((id, _)) => Sandbox { id, is_new: false },
            None if !scaling.take(now, 1.0) => return Err(Refused::Scaling),
            None => {
                function.known.push(BTreeSet::new());
                function.made += 1;
                Sandbox { id: function.made - 1, is_new: true }
            }
        };
        function.busy += 1;
        function.most = function.most.max(function.busy);
        self.busy += 1;
        self.most_busy = self.most_busy.max(self.busy);
        Ok(sandbox)
    }

    pub(crate) fn give_back(&mut self, step: Step, id: u32, now: f64) {
        self.busy = self.busy.saturating_sub(1);
        if let Some(function) = self.functions.get_mut(step as usize) {
            function.busy = function.busy.saturating_sub(1);
            function.idle.push_back((id, now));
        }
    }

    /// Whether a sandbox has not met this institute's user before.
    pub(crate) fn is_new_to(&self, step: Step, id: u32, institute: u32) -> bool {
        let Some(function) = self.functions.get(step as usize) else { return false };
        id >= function.warm && function.known.get(id as usize).is_some_and(|it| !it.contains(&institute))
    }

    pub(crate) fn meet(&mut self, step: Step, id: u32, institute: u32) {
        if let Some(known) = self.functions.get_mut(step as usize).and_then(|it| it.known.get_mut(id as usize)) {
            known.insert(institute);
        }
    }

    /// The most sandboxes of a function that were busy at once, and the number created.
    pub(crate) fn most(&self, step: Step) -> (u32, u32) {
        self.functions.get(step as usize).map_or((0, 0), |it| (it.most, it.made))
    }
}
