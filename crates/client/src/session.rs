//! Who is signed in on this machine, and where: one file that only its owner can read.
//!
//! The file holds a refresh token, which is as good as a password for as long as the pool lets it live. So the file is never
//! wider than 0600, not even while it is written, and nothing but this module reads or writes it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use etcetera::BaseStrategy;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::deployment::Deployment;
use crate::error::Environment;
use crate::private_file;
use crate::tokens::Tokens;

/// Names another session file than `$XDG_CONFIG_HOME/sluice/session.json`.
const VARIABLE: &str = "SLUICE_SESSION";

/// A sign-in: where, who, and the tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// The deployment.
    pub deployment: Deployment,
    /// The name the user signed in with.
    pub email: String,
    /// The tokens.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// The file of the session.
#[derive(Debug, Clone)]
pub struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The file that `SLUICE_SESSION` names, or else `$XDG_CONFIG_HOME/sluice/session.json`.
    ///
    /// # Errors
    /// When there is no home folder.
    pub fn find() -> Result<Self> {
        let path = match std::env::var_os(VARIABLE) {
            Some(path) => path.into(),
            None => config_folder()?.join("session.json"),
        };
        Ok(Self { path })
    }

    /// Reads the session, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or is no session.
    pub fn read(&self) -> Result<Option<Session>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.path.display())),
        };
        let session = serde_json::from_slice(&text).ok();
        Ok(Some(session.with_context(|| {
            format!("{} was written by another version of sluice: sign in again with `sluice login`", self.path.display())
        })?))
    }

    /// Reads the session.
    ///
    /// # Errors
    /// As [`SessionFile::read`]; and when nobody is signed in, with the command to sign in.
    pub fn signed_in(&self) -> Result<Session> {
        self.read()?.context("nobody is signed in: `sluice login` does that")
    }

    /// Replaces the session in one step. At no time can anybody else read it.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, session: &Session) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        private_folder(folder).with_context(|| format!("making {}", folder.display()))?;
        let mut text = serde_json::to_vec_pretty(session)?;
        text.push(b'\n');
        private_file::write(&self.path, &text)
    }

    /// Stores tokens from the refresh token of `session`, unless somebody has signed in or out meanwhile.
    ///
    /// # Errors
    /// As [`SessionFile::write`].
    pub fn refresh(&self, session: &Session) -> Result<()> {
        match self.read()? {
            Some(kept) if kept.tokens.refresh.expose_secret() == session.tokens.refresh.expose_secret() => self.write(session),
            _ => Ok(()),
        }
    }

    /// Removes the session.
    ///
    /// # Errors
    /// When the file exists and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Where the session and the settings are kept: `$XDG_CONFIG_HOME/sluice`.
///
/// # Errors
/// When there is no home folder.
pub fn config_folder() -> Result<PathBuf> {
    Ok(folders()?.config_dir().join("sluice"))
}

/// Where journals are kept: `$XDG_STATE_HOME/sluice`.
///
/// # Errors
/// When there is no home folder.
pub fn state_folder() -> Result<PathBuf> {
    let folders = folders()?;
    Ok(folders.state_dir().unwrap_or_else(|| folders.data_dir()).join("sluice"))
}

/// Creates a folder that only its owner can look into; an existing one stays as it is.
pub fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn folders() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy()
        .map_err(|error| Environment::lacks(format!("there is no home folder to keep a session in ({error}): set {VARIABLE}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::SecretString;

    use super::*;
    use crate::deployment::tests::deployment;
    pub(crate) use crate::tokens::tests::token;

    pub(crate) fn session(refresh: &str) -> Session {
        let tokens = Tokens {
            id: token(&serde_json::json!({ "sub": "1", "exp": 2_000_000_000 })),
            access: SecretString::from("access-canary"),
            refresh: SecretString::from(refresh),
        };
        Session { deployment: deployment(), email: "a@b.example".to_owned(), tokens }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_session_file_becomes_private() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFile { path: folder.path().join("new/session.json") };
        assert!(file.read().unwrap().is_none());
        file.write(&session("one")).unwrap();
        assert_eq!((mode(&file.path), mode(file.path.parent().unwrap())), (0o600, 0o700));

        std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o644)).unwrap();
        file.write(&session("two")).unwrap();
        assert_eq!(mode(&file.path), 0o600);
        assert_eq!(file.signed_in().unwrap().tokens.refresh.expose_secret(), "two");
        // No other file remains beside it.
        assert_eq!(std::fs::read_dir(file.path.parent().unwrap()).unwrap().count(), 1);
        file.remove().unwrap();
        file.remove().unwrap();
        assert!(file.signed_in().unwrap_err().to_string().contains("sluice login"));
    }

    #[test]
    fn a_refresh_does_not_undo_a_sign_in_or_a_sign_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFile { path: folder.path().join("session.json") };
        file.write(&session("mine")).unwrap();
        let refreshed = Session { email: "refreshed".to_owned(), ..session("mine") };
        file.refresh(&refreshed).unwrap();
        assert_eq!(file.signed_in().unwrap().email, "refreshed");

        file.write(&session("somebody else's")).unwrap();
        file.refresh(&refreshed).unwrap();
        assert_eq!(file.signed_in().unwrap().tokens.refresh.expose_secret(), "somebody else's");
        file.remove().unwrap();
        file.refresh(&refreshed).unwrap();
        assert!(file.read().unwrap().is_none());
    }

    #[test]
    fn debug_shows_no_tokens() {
        let shown = format!("{:?}", session("refresh-canary"));
        assert!(!shown.contains("canary") && !shown.contains("signature"), "{shown}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.json");
        std::fs::write(&path, r#"{"email": "a@b.example", "idToken": "canary"}"#).unwrap();
        let error = format!("{:#}", SessionFile { path }.read().unwrap_err());
        assert!(!error.contains("canary") && error.contains("sign in again"), "{error}");
    }
}
