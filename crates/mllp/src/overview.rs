//! The gateway's report on itself, for the log and the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::now_ms;
use crate::feed::Line;
use crate::report::{Counters, GatewayReport};
use crate::spool::Spool;

/// Makes reports.
#[derive(Debug)]
pub(crate) struct Overview {
    counters: Arc<Counters>,
    spool: Arc<Spool>,
    lines: Mutex<Vec<Arc<Line>>>,
}

impl Overview {
    pub(crate) fn new(counters: Arc<Counters>, spool: Arc<Spool>, lines: Vec<Arc<Line>>) -> Self {
        Self { counters, spool, lines: Mutex::new(lines) }
    }

    pub(crate) fn report(&self) -> GatewayReport {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone();
        GatewayReport::of(&self.counters, &lines, &self.spool.backlog(), now_ms())
    }

    /// Sets the feeds after a change.
    pub(crate) fn set_lines(&self, lines: Vec<Arc<Line>>) {
        *self.lines.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }
}
