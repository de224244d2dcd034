//! Reads what an earlier gateway has left in the spool.

use std::io;

use super::aside;
use super::error::{SpoolError, failed};
use super::files::{done_path, log_path, remove_segment, segment_numbers};
use super::index::{Entry, Lane, Segment};
use super::marks::Marks;
use super::record::{self, Place};
use super::shared::{Shared, origin};

/// The findings when the spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages that are not delivered, or whose storing is not confirmed.
    pub messages: usize,
    /// Parts of segment files without a readable message; they are now in `damaged`.
    pub damaged: usize,
}

impl Shared {
    /// Reads all segments. Also returns the highest segment number in use.
    pub(super) fn recover(&self) -> Result<(Recovery, u64), SpoolError> {
        let segments = self.segments();
        for folder in ["refused", "damaged"] {
            aside::clean(&*self.disk, &self.folder.join(folder));
        }
        let mut found = Recovery::default();
        let numbers = segment_numbers(&*self.disk, &segments).map_err(failed("reading", &segments))?;
        for &segment in &numbers {
            self.recover_segment(segment, &mut found)?;
        }
        self.index().aside_bytes = aside::bytes(&*self.disk, &self.folder);
        Ok((found, numbers.last().copied().unwrap_or_default()))
    }

    fn recover_segment(&self, segment: u64, found: &mut Recovery) -> Result<(), SpoolError> {
        let (path, done) = (log_path(&self.segments(), segment), done_path(&self.segments(), segment));
        let file = match self.disk.open(&path) {
            Ok(file) => file,
            // The process died after it removed the segment and before it removed its marks.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.disk.remove(&done).map_err(failed("removing", &done));
            }
            Err(error) => return Err(failed("opening", &path)(error)),
        };
        let bytes = self.disk.read(&path).map_err(failed("reading", &path))?;
        let marks = Marks::read(segment, &self.disk.read(&done).unwrap_or_default());
        let scan = record::scan(&bytes);
        for range in scan.damaged {
            let content = bytes.get(range.clone()).unwrap_or_default();
            let folder = self.folder.join("damaged");
            if aside::damaged(&*self.disk, &folder, segment, range.start, content).map_err(failed("writing to", &folder))? {
                found.damaged += 1;
            }
        }
        let mut index = self.index();
        let before = found.messages;
        for (offset, header) in scan.records {
            if !marks.is_done(offset) {
                let content = record::content(&bytes, offset, &header);
                let (origin, origin_bytes) = origin(&header, content);
                let (feed, lane) = (index.feed(&origin.feed), Lane::of(content.len().saturating_sub(origin_bytes)));
                let entry = Entry::new(Place { segment, offset }, header.length, lane, header.received_ms, feed, None);
                let lane = index.push(Entry { is_submitted: marks.is_submitted(offset), ..entry });
                self.available(lane).add_permits(1);
                found.messages += 1;
            }
        }
        if found.messages == before {
            remove_segment(&*self.disk, &self.segments(), segment);
        } else {
            let pending = u32::try_from(found.messages - before).unwrap_or(u32::MAX);
            let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            index.segments.insert(segment, Segment { file, bytes, pending });
        }
        Ok(())
    }
}
