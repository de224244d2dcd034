//! Makes a zip of a worker's binary and the files that go with it.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::Package;
use super::beside::Beside;
use super::purpose::Profile;
use super::worker::Worker;

/// Where to make a zip, and its content besides the binary.
pub(super) struct Contents {
    pub(super) folder: PathBuf,
    pub(super) beside: Beside,
}

/// The inputs of a zip. While the binary has this size and time, the zip is up to date.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Note {
    format: u32,
    beside: String,
    binary_bytes: u64,
    binary_modified_ns: u128,
    zip_bytes: u64,
    sha256: String,
}

/// The version of the packing. Raise it when the same binary would give another zip.
const FORMAT: u32 = 2;

/// The zip of a binary. Makes it only when the binary or what is beside it changed.
pub(super) fn pack(worker: &Worker, binary: &Path, contents: &Contents, profile: Profile) -> Result<Package> {
    let Contents { folder, beside } = contents;
    let hash = beside.hash();
    let zip = folder.join(format!("{}.zip", worker.name));
    let note_path = folder.join(format!("{}.json", worker.name));
    let metadata = std::fs::metadata(binary)?;
    let binary_modified_ns = metadata.modified()?.duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let noted = std::fs::read(&note_path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok()).filter(|note| {
        note.format == FORMAT
            && note.beside == hash
            && note.binary_bytes == metadata.len()
            && note.binary_modified_ns == binary_modified_ns
            && std::fs::metadata(&zip).is_ok_and(|metadata| metadata.len() == note.zip_bytes)
    });
    let note = match noted {
        Some(note) => note,
        None => {
            std::fs::create_dir_all(folder)?;
            let bytes = match profile {
                Profile::Dev => without_debug_symbols(binary)?,
                Profile::Release => std::fs::read(binary)?,
            };
            // The local AWS unpacks the zip right away, so speed matters more than size.
            let level = if profile == Profile::Dev { 1 } else { 9 };
            let packed = zip_files(&bytes, beside, level)?;
            let note = Note {
                format: FORMAT,
                beside: hash,
                binary_bytes: metadata.len(),
                binary_modified_ns,
                zip_bytes: packed.len() as u64,
                sha256: const_hex::encode(Sha256::digest(&packed)),
            };
            write_whole(&zip, &packed)?;
            write_whole(&note_path, &serde_json::to_vec_pretty(&note)?)?;
            note
        }
    };
    let key = format!("{}/{}.zip", worker.name, note.sha256);
    Ok(Package { worker: worker.clone(), key, zip, size_bytes: note.zip_bytes })
}

/// A zip with `bootstrap`, and the files beside it if there are any. The same bytes always give the same zip.
fn zip_files(binary: &[u8], beside: &Beside, level: i64) -> Result<Vec<u8>> {
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .compression_level(Some(level))
        .last_modified_time(zip::DateTime::default())
        .unix_permissions(0o755);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("bootstrap", options)?;
    writer.write_all(binary)?;
    for (name, content) in beside.iter() {
        writer.start_file(name, options.unix_permissions(0o644))?;
        writer.write_all(content)?;
    }
    Ok(writer.finish()?.into_inner())
}

/// The binary without debug symbols if `strip` is installed, else unchanged. Most of a dev binary is line tables.
fn without_debug_symbols(binary: &Path) -> Result<Vec<u8>> {
    // A file of one's own: others may pack the same binary now.
    let stripped = file_beside(binary)?;
    let done = std::process::Command::new("strip")
        .arg("--strip-debug")
        .arg("-o")
        .args([stripped.path(), binary])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success());
    let bytes = std::fs::read(if done { stripped.path() } else { binary })?;
    ensure!(!bytes.is_empty(), "the binary is empty");
    Ok(bytes)
}

/// Writes a file so that others see all of it or nothing.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut unfinished = file_beside(path)?;
        unfinished.write_all(bytes)?;
        unfinished.persist(path).map_err(|error| error.error).map(drop)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// An empty file in the folder of another, which is removed in the end.
fn file_beside(path: &Path) -> std::io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_same_binary_gives_the_same_zip() {
        let first = zip_files(b"\x7fELF and so on", &Beside::default(), 9).unwrap();
        std::thread::sleep(Duration::from_millis(2_100)); // longer than the two seconds a zip's clock counts in
        assert_eq!(first, zip_files(b"\x7fELF and so on", &Beside::default(), 9).unwrap());
        assert_ne!(first, zip_files(b"\x7fELF and so off", &Beside::default(), 9).unwrap());
    }

    #[test]
    fn a_zip_holds_one_executable_bootstrap() {
        let zip = zip_files(b"content", &Beside::default(), 1).unwrap();
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip)).unwrap();
        assert_eq!(archive.len(), 1);
        let mut file = archive.by_name("bootstrap").unwrap();
        assert_eq!(file.unix_mode().unwrap() & 0o777, 0o755);
        let mut content = String::new();
        file.read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn a_zip_without_a_schema_is_the_one_of_the_binary_alone() {
        let folder = tempfile::tempdir().unwrap();
        let schema = folder.path().join("own.toml");
        let text = "[ZPI]\nname = \"Additional\"\nfields = [{ position = 1, name = \"Language\" }]\n";
        std::fs::write(&schema, text).unwrap();
        let zip = |schema: Option<&Path>| zip_files(b"content", &Beside::schema(schema).unwrap(), 1).unwrap();
        assert_eq!(zip(None), zip_files(b"content", &Beside::default(), 1).unwrap());
        assert_eq!(zip(Some(&schema)), zip(Some(&schema)));
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip(Some(&schema)))).unwrap();
        let mut found = String::new();
        archive.by_name("schema.toml").unwrap().read_to_string(&mut found).unwrap();
        assert_eq!((archive.len(), found.as_str()), (2, text));

        std::fs::write(&schema, text.replace("ZPI", "PID")).unwrap();
        let refused = format!("{:#}", Beside::schema(Some(&schema)).unwrap_err());
        assert!(refused.contains("own.toml: line 1, column 2: a segment of your own is named Z"), "{refused}");
    }

    #[test]
    fn a_binary_is_packed_again_only_when_it_changed() {
        let folder = std::env::temp_dir().join(format!("sluice-pack-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let binary = folder.join("submit");
        std::fs::write(&binary, "one").unwrap();
        let pack = |beside: &Beside| {
            let contents = Contents { folder: folder.clone(), beside: beside.clone() };
            let submit = Worker { name: "submit".to_owned(), has_policies: false };
            pack(&submit, &binary, &contents, Profile::Release).unwrap()
        };
        let none = Beside::default();
        let first = pack(&none);
        let packed_at = std::fs::metadata(&first.zip).unwrap().modified().unwrap();
        assert_eq!(pack(&none).key, first.key);
        assert_eq!(std::fs::metadata(&first.zip).unwrap().modified().unwrap(), packed_at);

        std::fs::write(&binary, "another").unwrap();
        let second = pack(&none);
        assert_ne!(second.key, first.key);

        let policies = folder.join("policies");
        std::fs::create_dir_all(&policies).unwrap();
        std::fs::write(policies.join("a.cedar"), "permit (principal, action, resource);").unwrap();
        std::fs::write(policies.join("README.md"), "no policy").unwrap();
        std::fs::write(policies.join("outputs.json"), "{}").unwrap();
        let third = pack(&Beside::policies_as_they_are(&policies).unwrap());
        assert_ne!(third.key, second.key);
        let archive = zip::ZipArchive::new(std::fs::File::open(&third.zip).unwrap()).unwrap();
        assert_eq!(archive.file_names().map(|name| name.unwrap()).collect::<Vec<_>>(), ["bootstrap", "policies/a.cedar"]);
        std::fs::write(policies.join("a.cedar"), "forbid (principal, action, resource);").unwrap();
        assert_ne!(pack(&Beside::policies_as_they_are(&policies).unwrap()).key, third.key);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
