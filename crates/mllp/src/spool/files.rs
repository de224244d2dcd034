//! The files of segments: their names, and how they are found and removed.

use std::io;
use std::path::{Path, PathBuf};

use super::disk::Disk;

pub(super) fn log_path(segments: &Path, segment: u64) -> PathBuf {
    segments.join(format!("{segment:017}.log"))
}

pub(super) fn done_path(segments: &Path, segment: u64) -> PathBuf {
    segments.join(format!("{segment:017}.done"))
}

/// If this fails, the next start removes the file.
pub(super) fn remove_segment(disk: &dyn Disk, segments: &Path, segment: u64) {
    if disk.remove(&log_path(segments, segment)).is_ok() {
        let _ = disk.remove(&done_path(segments, segment));
    }
}

/// The numbers of all segments that have a file, in their order.
pub(super) fn segment_numbers(disk: &dyn Disk, segments: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for (name, _) in disk.list(segments)? {
        let path = Path::new(&name);
        let is_ours = path.extension().is_some_and(|it| it == "log" || it == "done");
        let number = path.file_stem().and_then(|name| name.to_str()?.parse::<u64>().ok());
        numbers.extend(number.filter(|_| is_ours));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}
