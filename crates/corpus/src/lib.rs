//! Messages for tests, benchmarks and the fuzzer: those of this folder, which are made up (`README.md` says what each shows), and
//! those of the folder that `SLUICE_CORPUS` names.

use std::io::{self, Error, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// The environment variable that names a folder with more messages.
pub const VARIABLE: &str = "SLUICE_CORPUS";

/// One file with what a sender may submit in one body: a message, a batch, or something else.
#[derive(Clone, PartialEq, Eq)]
pub struct Sample {
    /// Where the file is.
    pub path: PathBuf,
    /// Its content, in whatever character set it is.
    pub bytes: Vec<u8>,
}

impl Sample {
    /// The name of the file without `.hl7`.
    pub fn name(&self) -> String {
        self.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Shows the path alone: the content may be a patient's.
impl std::fmt::Debug for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.path.display())
    }
}

/// The made-up messages, in the order of their names.
///
/// # Errors
/// The folder of this crate is absent, or has no messages.
pub fn made_up() -> io::Result<Vec<Sample>> {
    below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("messages"))
}

/// The made-up messages, followed by those below the folder of `SLUICE_CORPUS`. If the variable is not set, a line on stderr says
/// so, once per process, even where a test's output is captured.
///
/// # Errors
/// Those of [`made_up`]; the variable names no absolute path, or nothing exists there, or no `.hl7` file.
pub fn messages() -> io::Result<Vec<Sample>> {
    let mut samples = made_up()?;
    match std::env::var_os(VARIABLE) {
        Some(folder) => samples.extend(of_variable(Path::new(&folder))?),
        None => {
            static SAID: Once = Once::new();
            // `eprintln!` would be captured, and a test that passes shows nothing of it.
            SAID.call_once(|| _ = writeln!(io::stderr(), "{VARIABLE} is not set: only the made-up messages are tried"));
        }
    }
    Ok(samples)
}

fn of_variable(folder: &Path) -> io::Result<Vec<Sample>> {
    // Tests and benchmarks run in the folder of their crate, so a relative path would be a surprise.
    if !folder.is_absolute() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            format!("{VARIABLE} is `{}`, and not an absolute path", folder.display()),
        ));
    }
    below(folder).map_err(|error| Error::new(error.kind(), format!("{VARIABLE}: {error}")))
}

/// Every `.hl7` file in a folder and the folders in it; at least one.
fn below(folder: &Path) -> io::Result<Vec<Sample>> {
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", folder.display()));
    let (mut folders, mut paths) = (vec![folder.to_owned()], Vec::new());
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).map_err(named)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "hl7") {
                paths.push(path);
            }
        }
    }
    if paths.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("{} has no .hl7 files", folder.display())));
    }
    paths.sort();
    paths.into_iter().map(|path| Ok(Sample { bytes: std::fs::read(&path)?, path })).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_made_up_message_is_in_the_readme_and_no_other() {
        let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
        let rows: Vec<_> = readme.lines().filter_map(|it| it.strip_prefix("| `")?.split_once("` | ")).collect();
        let named: BTreeSet<_> = rows.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(named.len(), rows.len(), "a file has two rows");
        let there: BTreeSet<_> = made_up().unwrap().iter().map(Sample::name).collect();
        assert_eq!(there, named);
        assert!(there.len() >= 80);
    }

    #[test]
    fn no_made_up_message_is_there_twice() {
        let messages = made_up().unwrap();
        let different: BTreeSet<_> = messages.iter().map(|it| &it.bytes).collect();
        assert_eq!(different.len(), messages.len());
    }

    #[test]
    fn a_folder_that_is_named_and_is_absent_or_empty_is_an_error() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert!(of_variable(&here.join("messages")).is_ok());
        for (folder, reason) in [
            (Path::new("messages"), "not an absolute path"),
            (&here.join("none"), "No such file"),
            (&here.join("src"), "no .hl7"),
        ] {
            let error = of_variable(folder).unwrap_err().to_string();
            assert!(error.starts_with(VARIABLE) && error.contains(reason), "{error}");
        }
    }
}
