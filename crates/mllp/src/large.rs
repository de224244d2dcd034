//! Bounds the memory of large frames, which exceed the limit of a request to the API.
//!
//! Each connection may hold a small frame. A frame that grows beyond that takes room for all of its bytes, in steps that double,
//! and gives it back when the spool has the message. If there is no room, the gateway passes the frame over and tells its sender
//! to send it again later. A frame does not wait for room: half a dozen half-read frames would wait for each other until all of
//! them are too late.

use std::sync::Arc;

use domain::MAX_MESSAGE_BYTES;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Room is counted in these.
const UNIT_BYTES: usize = 1024 * 1024;

/// The room for all large frames that are being read.
#[derive(Debug)]
pub(crate) struct Room(Arc<Semaphore>);

/// The part of a [`Room`] that a frame has taken. Dropping it gives the part back. A small frame has none.
#[derive(Debug, Default)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl Room {
    /// Room for so many bytes; at least for one frame of `frame_bytes`, which otherwise would never be taken.
    pub(crate) fn new(bytes: usize, frame_bytes: usize) -> Self {
        let units = bytes.max(step(frame_bytes)).div_ceil(UNIT_BYTES);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes room for a frame of so many bytes beside what the frame has. Returns how many bytes the frame may grow to before it has to
    /// ask again; `None` if there is no room, and then the frame loses what it had.
    pub(crate) fn grow(&self, share: &mut Share, bytes: usize) -> Option<usize> {
        if bytes <= MAX_MESSAGE_BYTES {
            return Some(MAX_MESSAGE_BYTES);
        }
        let bytes = step(bytes);
        let missing = (bytes / UNIT_BYTES).saturating_sub(share.units());
        let more = u32::try_from(missing).ok().and_then(|it| Arc::clone(&self.0).try_acquire_many_owned(it).ok());
        let Some(more) = more else {
            *share = Share::default();
            return None;
        };
        match &mut share.0 {
            Some(taken) => taken.merge(more),
            None => share.0 = Some(more),
        }
        Some(bytes)
    }
}

impl Share {
    fn units(&self) -> usize {
        self.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits)
    }
}

/// The room that a large frame of so many bytes takes. So its buffer moves only a few times, and is never twice as long as the
/// frame.
fn step(bytes: usize) -> usize {
    bytes.max(UNIT_BYTES).checked_next_power_of_two().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn large_frames_together_never_take_more_than_their_room() {
        let room = Room::new(256 * MIB, 64 * MIB);
        let mut frames: Vec<(Share, usize)> = (0..256).map(|_| (Share::default(), 0)).collect();
        // All of them grow at a time, by a MiB in each round, and those that are passed over stay so.
        let mut most = 0;
        for mib in 1..=64 {
            for (share, bytes) in &mut frames {
                if *bytes + MIB == mib * MIB && room.grow(share, mib * MIB).is_some() {
                    *bytes = mib * MIB;
                }
            }
            let large = frames.iter().filter(|(share, _)| share.units() > 0);
            assert!(large.clone().all(|(share, bytes)| share.units() * MIB >= *bytes), "{mib}");
            most = most.max(large.map(|(share, _)| share.units()).sum::<usize>());
        }
        assert_eq!(most, 256);
        assert_eq!(frames.iter().filter(|(_, bytes)| *bytes == 64 * MIB).count(), 4, "as many as there is room for");
        frames.clear();
        assert_eq!(room.0.available_permits(), 256);
    }

    #[test]
    fn a_frame_without_room_gives_back_what_it_had_and_small_frames_take_none() {
        let room = Room::new(16 * MIB, 16 * MIB);
        let (mut one, mut two, mut small) = (Share::default(), Share::default(), Share::default());
        assert_eq!(room.grow(&mut one, MAX_MESSAGE_BYTES + 1), Some(8 * MIB));
        assert_eq!(room.grow(&mut two, 5 * MIB), Some(8 * MIB));
        assert_eq!(room.grow(&mut small, MAX_MESSAGE_BYTES), Some(MAX_MESSAGE_BYTES));
        assert_eq!((room.grow(&mut two, 9 * MIB), two.units(), room.0.available_permits()), (None, 0, 8));
        assert_eq!((room.grow(&mut one, 9 * MIB), one.units()), (Some(16 * MIB), 16));
        drop(one);
        assert_eq!(room.grow(&mut two, 16 * MIB), Some(16 * MIB));
    }

    #[test]
    fn there_is_room_for_one_frame_of_the_largest_size() {
        let room = Room::new(0, 40 * MIB);
        assert_eq!(room.grow(&mut Share::default(), 40 * MIB), Some(64 * MIB));
        assert_eq!(room.grow(&mut Share::default(), usize::MAX), None);
    }
}
