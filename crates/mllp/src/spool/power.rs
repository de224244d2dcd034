//! The spool on a disk whose power fails at any moment, that is full, and whose `fsync` fails.
//!
//! The disk is a model of what a file system promises, and of no more: what was not synced is there, or not, or in part, sector by
//! sector and in any order; a name is there only when its folder was synced; after an `fsync` that failed nobody knows what is there,
//! and the next one succeeds all the same.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;

use super::disk::{Disk, DiskFile};
use super::*;
use crate::origin::Origin;

/// The unit that a disk writes completely or not at all.
const SECTOR: usize = 512;
const FOLDER: &str = "/var/lib/sluice/spool";
const MAX: u64 = 48 * 1024;

#[derive(Clone, Debug)]
struct ModelDisk(Arc<Mutex<Model>>);

/// The faults of a disk.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    /// One call in so many fails; 0 for none.
    one_in: u32,
    /// The total size of all files in bytes; 0 for no limit.
    capacity: usize,
    /// `fdatasync` and `fsync` report success without doing anything.
    files_lie: bool,
    /// The same of folders.
    folders_lie: bool,
}

#[derive(Debug)]
struct Model {
    rng: Rng,
    faults: Faults,
    /// Calls that change something until the power fails.
    calls_left: u64,
    is_off: bool,
    files: Vec<File>,
    /// The names that processes see.
    names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    /// The names after a power failure.
    lasting_names: BTreeMap<PathBuf, usize>,
    lasting_folders: BTreeSet<PathBuf>,
    /// Changes that are not synced, with their folder.
    changes: Vec<(PathBuf, Change)>,
}

#[derive(Clone, Debug, Default)]
struct File {
    /// The content that processes see.
    bytes: Vec<u8>,
    lasting: Vec<u8>,
    /// Writes that are not synced.
    writes: Vec<(usize, Vec<u8>)>,
}

#[derive(Clone, Debug)]
enum Change {
    Folder(PathBuf),
    Named(PathBuf, usize),
    Renamed(PathBuf, PathBuf, usize),
    Removed(PathBuf),
}

impl File {
    /// Its content after a power failure: any of the sectors that were not synced may be there. The others are zeros, or have the
    /// content from before the file.
    fn after_power_failure(&self, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.lasting.clone();
        for (offset, written) in &self.writes {
            let mut at = *offset;
            while at < offset + written.len() {
                let end = ((at / SECTOR + 1) * SECTOR).min(offset + written.len());
                if rng.bool() {
                    if bytes.len() < end {
                        let garbage = rng.u8(0..4) == 0;
                        bytes.resize_with(end, || if garbage { rng.u8(..) } else { 0 });
                    }
                    bytes[at..end].copy_from_slice(&written[at - offset..end - offset]);
                }
                at = end;
            }
        }
        // Its length may have been written though its content was not.
        if bytes.len() < self.bytes.len() && rng.bool() {
            bytes.resize(self.bytes.len(), 0);
        }
        bytes
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, folders: &mut BTreeSet<PathBuf>, change: &Change) {
    match change {
        Change::Folder(path) => drop(folders.insert(path.clone())),
        Change::Named(path, file) => drop(names.insert(path.clone(), *file)),
        Change::Renamed(from, to, file) => {
            names.remove(from);
            names.insert(to.clone(), *file);
        }
        Change::Removed(path) => drop(names.remove(path)),
    }
}

impl Model {
    fn change(&mut self, path: &Path, change: Change) {
        apply(&mut self.names, &mut self.folders, &change);
        self.changes.push((path.parent().unwrap().to_owned(), change));
    }

    /// Whether there is power for another change. The last change may happen in part.
    fn begin(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("no power"));
        }
        if self.calls_left == 0 {
            self.is_off = true;
        }
        self.calls_left = self.calls_left.saturating_sub(1);
        Ok(())
    }

    /// Ends a change.
    fn end(&mut self) -> io::Result<()> {
        if self.is_off { Err(io::Error::other("no power")) } else { Ok(()) }
    }

    fn fails(&mut self) -> bool {
        self.faults.one_in > 0 && self.rng.u32(0..self.faults.one_in) == 0
    }

    fn file(&mut self, path: &Path) -> io::Result<usize> {
        if self.is_off {
            return Err(io::Error::other("no power"));
        }
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn make(&mut self, path: &Path) -> io::Result<usize> {
        self.begin()?;
        if self.fails() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(self.folders.contains(path.parent().unwrap()), "{}", path.display());
        self.files.push(File::default());
        let file = self.files.len() - 1;
        self.change(path, Change::Named(path.to_owned(), file));
        self.end()?;
        Ok(file)
    }

    fn sync(&mut self, file: usize) -> io::Result<()> {
        self.begin()?;
        self.end()?;
        let fails = self.fails();
        let (rng, found) = (&mut self.rng, &mut self.files[file]);
        if fails {
            // The system counts pages that it could not write as written.
            found.lasting = found.after_power_failure(rng);
            found.writes.clear();
            return Err(io::Error::other("the disk fails"));
        }
        if !self.faults.files_lie {
            found.lasting.clone_from(&found.bytes);
            found.writes.clear();
        }
        Ok(())
    }
}

impl ModelDisk {
    fn new(seed: u64) -> Self {
        let root = BTreeSet::from([PathBuf::from("/"), PathBuf::from("/var"), PathBuf::from("/var/lib")]);
        Self(Arc::new(Mutex::new(Model {
            rng: Rng::with_seed(seed),
            faults: Faults::default(),
            calls_left: u64::MAX,
            is_off: false,
            files: Vec::new(),
            names: BTreeMap::new(),
            folders: root.clone(),
            lasting_names: BTreeMap::new(),
            lasting_folders: root,
            changes: Vec::new(),
        })))
    }

    fn model(&self) -> MutexGuard<'_, Model> {
        self.0.lock().unwrap()
    }

    /// The same disk after a power failure. It now works for this many calls, with these faults.
    fn after_power_failure(&self, calls: u64, faults: Faults) -> Self {
        let mut before = self.model();
        before.is_off = true;
        let mut rng = Rng::with_seed(before.rng.u64(..));
        let (mut names, mut folders) = (before.lasting_names.clone(), before.lasting_folders.clone());
        for (_, change) in &before.changes {
            if rng.bool() {
                apply(&mut names, &mut folders, change);
            }
        }
        // A removed folder takes everything in it along.
        folders = folders.iter().filter(|folder| folder.ancestors().all(|above| folders.contains(above))).cloned().collect();
        names.retain(|path, _| folders.contains(path.parent().unwrap()));
        let files = before.files.iter().map(|file| file.after_power_failure(&mut rng));
        let files = files.map(|bytes| File { lasting: bytes.clone(), bytes, writes: Vec::new() }).collect();
        Self(Arc::new(Mutex::new(Model {
            rng,
            faults,
            calls_left: calls,
            is_off: false,
            files,
            lasting_names: names.clone(),
            lasting_folders: folders.clone(),
            names,
            folders,
            changes: Vec::new(),
        })))
    }
}

impl Disk for ModelDisk {
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = {
            let model = self.model();
            folder.ancestors().take_while(|it| !model.folders.contains(*it)).map(Path::to_owned).collect()
        };
        for folder in missing.iter().rev() {
            let mut model = self.model();
            model.begin()?;
            model.change(folder, Change::Folder(folder.clone()));
            model.end()?;
        }
        for folder in missing.iter().map(PathBuf::as_path).chain([folder]) {
            self.sync_folder(folder.parent().unwrap())?;
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Any + Send + Sync>>> {
        let mut model = self.model();
        if model.file(path).is_err() {
            model.make(path)?;
        }
        Ok(Some(Box::new(())))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut model = self.model();
        if model.file(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = model.make(path)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.model().file(path)?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn append(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let known = self.model().file(path);
        let file = known.or_else(|_| self.model().make(path))?;
        Ok(Arc::new(OpenFile { disk: self.clone(), file }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut model = self.model();
        let file = model.file(path)?;
        Ok(model.files[file].bytes.clone())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut model = self.model();
        let file = model.file(from)?;
        model.begin()?;
        model.change(to, Change::Renamed(from.to_owned(), to.to_owned(), file));
        model.end()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut model = self.model();
        model.file(path)?;
        model.begin()?;
        model.change(path, Change::Removed(path.to_owned()));
        model.end()
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<(OsString, u64)>> {
        let model = self.model();
        if model.is_off {
            return Err(io::Error::other("no power"));
        }
        let within = model.names.iter().filter(|(path, _)| path.parent() == Some(folder));
        Ok(within.map(|(path, file)| (path.file_name().unwrap().to_owned(), model.files[*file].bytes.len() as u64)).collect())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut model = self.model();
        model.begin()?;
        model.end()?;
        if model.fails() {
            return Err(io::Error::other("the disk fails"));
        }
        if model.faults.folders_lie {
            return Ok(());
        }
        let (synced, others) = std::mem::take(&mut model.changes).into_iter().partition(|(within, _)| within == folder);
        model.changes = others;
        let synced: Vec<(PathBuf, Change)> = synced;
        let Model { lasting_names, lasting_folders, .. } = &mut *model;
        for (_, change) in synced {
            apply(lasting_names, lasting_folders, &change);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct OpenFile {
    disk: ModelDisk,
    file: usize,
}

impl DiskFile for OpenFile {
    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut model = self.disk.model();
        model.begin()?;
        let used: usize = model.files.iter().map(|file| file.bytes.len()).sum();
        let capacity = if model.faults.capacity == 0 { usize::MAX } else { model.faults.capacity };
        let fails = model.fails() || used + bytes.len() > capacity;
        // A failed write may have written a part.
        let length = if fails { model.rng.usize(0..=bytes.len()).min(capacity.saturating_sub(used)) } else { bytes.len() };
        let file = &mut model.files[self.file];
        let at = file.bytes.len();
        file.bytes.extend_from_slice(&bytes[..length]);
        file.writes.push((at, bytes[..length].to_vec()));
        model.end()?;
        if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let model = self.disk.model();
        if model.is_off {
            return Err(io::Error::other("no power"));
        }
        let from = usize::try_from(offset).unwrap();
        let read = model.files[self.file].bytes.get(from..from + bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(read);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut model = self.disk.model();
        model.begin()?;
        // Without a sync, the old length may come back. So this changes nothing durable.
        model.files[self.file].bytes.truncate(usize::try_from(bytes).unwrap());
        model.end()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.model().sync(self.file)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.model().sync(self.file)
    }
}

/// The messages that a spool got over all its lives.
#[derive(Default)]
struct Given {
    next: usize,
    /// Messages acknowledged and not done.
    kept: BTreeSet<Vec<u8>>,
    /// Messages that were set aside.
    refused: BTreeSet<Vec<u8>>,
}

fn open(disk: &ModelDisk, now_ms: u64) -> Result<(Spool, Recovery), SpoolError> {
    Spool::open_on(Arc::new(disk.clone()), Path::new(FOLDER), "west", MAX, now_ms)
}

/// Opens the spool on a working disk, and returns what is missing of the given messages.
async fn missing(disk: &ModelDisk, given: &Given) -> Vec<String> {
    let mut there = BTreeSet::new();
    let (spool, recovery) = match open(disk, 0) {
        Ok(opened) => opened,
        Err(error) => return vec![error.to_string()],
    };
    for _ in 0..recovery.messages {
        let entry = spool.take(Lane::Small).await;
        match spool.read(&entry).await.unwrap() {
            Content::Message { message, .. } => drop(there.insert(message)),
            Content::Damaged => panic!("what is in the index is whole"),
        }
    }
    spool.close().await;
    let refused = Path::new(FOLDER).join("refused");
    let names = disk.list(&refused).unwrap();
    let set_aside: BTreeSet<_> = names.iter().map(|(name, _)| disk.read(&refused.join(name)).unwrap()).collect();
    let kept = given.kept.difference(&there).map(|message| format!("acknowledged: {}", String::from_utf8_lossy(message)));
    let refused = given.refused.difference(&set_aside).map(|message| format!("refused: {}", String::from_utf8_lossy(message)));
    kept.chain(refused).map(|text| text.chars().take(40).collect()).collect()
}

/// One life of a spool, which ends with a power failure.
async fn live(disk: &ModelDisk, rng: &mut Rng, given: &mut Given) {
    let label = Arc::new(Label::new(Origin { feed: "adt".to_owned(), ..Origin::default() }));
    // The clock may show any time, even an earlier one.
    let now_ms = [0, 1, 1_700_000_000_000, 4_000_000_000_000][rng.usize(0..4)];
    let Ok((spool, _)) = open(disk, now_ms) else { return };
    let mut in_hand = Vec::new();
    for _ in 0..rng.usize(1..40) {
        match rng.u32(0..10) {
            0..6 => {
                let mut answers = Vec::new();
                for _ in 0..rng.usize(1..4) {
                    given.next += 1;
                    let message = format!("{}-{}", given.next, "x".repeat(rng.usize(0..2_000))).into_bytes();
                    let answer = spool.append(&label, message.clone(), now_ms, None).await;
                    answers.push((message, answer));
                }
                for (message, answer) in answers {
                    if answer.await == Ok(Ok(())) {
                        given.kept.insert(message);
                    }
                }
            }
            6 => spool.tidy(),
            _ => {
                if spool.shared.available.available_permits() > 0 {
                    in_hand.push(spool.take(Lane::Small).await);
                } else if let Some(entry) = in_hand.pop() {
                    if rng.u8(0..4) == 0 {
                        in_hand.push(spool.moved(entry).await);
                        continue;
                    }
                    if rng.bool() {
                        spool.submitted(&entry);
                    }
                    let Ok(Content::Message { message, .. }) = spool.read(&entry).await else { continue };
                    if rng.u8(0..4) == 0 {
                        let reason = Reason {
                            status: 400,
                            detail: String::new(),
                            charset: None,
                            received_at: String::new(),
                            refused_at: String::new(),
                        };
                        if spool.refuse(message.clone().into(), reason).await.is_err() {
                            continue;
                        }
                        given.refused.insert(message.clone());
                    }
                    given.kept.remove(&message);
                    spool.done(&entry);
                }
            }
        }
    }
    spool.close().await;
}

/// Lets a spool live several lives, each with a power failure at its end, and returns what was lost.
async fn lives(seed: u64, faults: Faults) -> Vec<String> {
    let mut rng = Rng::with_seed(seed);
    let (mut disk, mut given) = (ModelDisk::new(seed), Given::default());
    for _ in 0..4 {
        let calls = if rng.bool() { rng.u64(1..40) } else { rng.u64(1..400) };
        disk = disk.after_power_failure(calls, faults);
        live(&disk, &mut rng, &mut given).await;
        disk = disk.after_power_failure(u64::MAX, Faults::default());
        let missing = missing(&disk, &given).await;
        if !missing.is_empty() {
            return missing;
        }
    }
    Vec::new()
}

/// The number of runs for each kind of fault.
const SEEDS: u64 = 100;

#[tokio::test]
async fn acknowledged_messages_survive_a_power_failure_at_any_moment_and_with_any_clock() {
    for seed in 0..SEEDS {
        assert_eq!(lives(seed, Faults::default()).await, [] as [String; 0], "seed {seed}");
    }
}

#[tokio::test]
async fn acknowledged_messages_survive_a_full_disk_and_a_failed_fsync() {
    for seed in 0..SEEDS {
        let faults = Faults { one_in: 20, ..Faults::default() };
        assert_eq!(lives(seed, faults).await, [] as [String; 0], "seed {seed}");
        let faults = Faults { capacity: 20_000, ..Faults::default() };
        assert_eq!(lives(seed, faults).await, [] as [String; 0], "seed {seed}");
    }
}

#[tokio::test]
async fn the_model_detects_a_disk_that_only_claims_to_sync() {
    for faults in [Faults { files_lie: true, ..Faults::default() }, Faults { folders_lie: true, ..Faults::default() }] {
        let mut lost = false;
        for seed in 0..SEEDS {
            lost |= !lives(seed, faults).await.is_empty();
        }
        assert!(lost, "{faults:?}");
    }
}
