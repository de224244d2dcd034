//! Who is signed in on this machine, and where: one file that only its owner can read.
//!
//! It holds a refresh token, which is as good as a password for as long as the pool lets it live. So the file is never
//! wider than 0600, not even while it is written, and nothing but this module reads or writes it.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use etcetera::BaseStrategy;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::error::Environment;
use crate::outputs::{Outputs, secret};
use crate::private_file;

/// Names another session file than `$XDG_CONFIG_HOME/sluice/session.json`.
const VARIABLE: &str = "SLUICE_SESSION";

/// What a user's programs must know of a deployment: the few names in its outputs that are no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The API; `/er7` is appended to it.
    pub api_url: String,
    /// The AWS region.
    pub region: String,
    /// The Cognito user pool.
    pub user_pool_id: String,
    /// The app client people sign in through.
    pub client_id: String,
    /// The Cognito identity pool that exchanges ID tokens for AWS credentials.
    pub identity_pool_id: String,
    /// The name that the identity pool knows the user pool by.
    pub user_pool_provider_name: String,
    /// The local AWS; absent where AWS itself is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Where the lake's own staff sign in; absent in files that were handed out before they could.
    #[serde(flatten)]
    pub staff: Option<StaffPool>,
    /// The institutes' pool where [`Deployment::for_staff`] has put the staff's in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    institutes: Option<Pool>,
}

/// The user pool of the lake's own staff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StaffPool {
    /// The Cognito user pool.
    #[serde(rename = "staffUserPoolId")]
    pub user_pool_id: String,
    /// The app client they sign in through.
    #[serde(rename = "staffClientId")]
    pub client_id: String,
    /// The name that the identity pool knows the user pool by.
    #[serde(rename = "staffUserPoolProviderName")]
    pub user_pool_provider_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pool {
    user_pool_id: String,
    client_id: String,
    user_pool_provider_name: String,
}

impl Deployment {
    /// The same deployment as the lake's own staff see it: the pool they sign in to is theirs.
    ///
    /// # Errors
    /// When the file that it was read from names no such pool.
    pub fn for_staff(self) -> Result<Self> {
        if self.is_for_staff() {
            return Ok(self);
        }
        let staff = self.staff.clone().context(
            "the deployment's file names no user pool for the lake's staff: ask its operator for a new one (`sluice deploy --json`)",
        )?;
        Ok(Self {
            institutes: Some(Pool {
                user_pool_id: self.user_pool_id,
                client_id: self.client_id,
                user_pool_provider_name: self.user_pool_provider_name,
            }),
            user_pool_id: staff.user_pool_id,
            client_id: staff.client_id,
            user_pool_provider_name: staff.user_pool_provider_name,
            ..self
        })
    }

    /// The same deployment as the institutes' users see it.
    #[must_use]
    pub fn for_institutes(self) -> Self {
        match self.institutes {
            Some(Pool { user_pool_id, client_id, user_pool_provider_name }) => {
                Self { user_pool_id, client_id, user_pool_provider_name, institutes: None, ..self }
            }
            None => self,
        }
    }

    /// Whether the pool to sign in to is that of the lake's own staff.
    #[must_use]
    pub fn is_for_staff(&self) -> bool {
        self.staff.as_ref().is_some_and(|staff| staff.user_pool_id == self.user_pool_id)
    }

    /// Reads what an operator hands out: the outputs of a deployment (`sluice deploy --json`), or a file that this type
    /// was written to. Whatever else is in it, such as the passwords of local users, is left there.
    ///
    /// # Errors
    /// When the file is not there, or lacks a name.
    pub fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct File {
            stack_outputs: Option<StackOutputs>,
            #[serde(flatten)]
            rest: serde_json::Map<String, serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct StackOutputs {
            #[serde(rename = "UserPoolProviderName")]
            user_pool_provider_name: Option<String>,
            #[serde(rename = "StaffUserPoolProviderName")]
            staff_user_pool_provider_name: Option<String>,
        }
        let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        // serde_json's own text names the line and the member, never a value of a string.
        let mut file: File =
            serde_json::from_slice(&text).with_context(|| format!("{} does not describe a deployment", path.display()))?;
        if let Some(outputs) = file.stack_outputs {
            let names = [
                ("userPoolProviderName", outputs.user_pool_provider_name),
                ("staffUserPoolProviderName", outputs.staff_user_pool_provider_name),
            ];
            let names = names.into_iter().filter_map(|(member, name)| Some((member.to_owned(), name?.into())));
            file.rest.extend(names);
        }
        serde_json::from_value(file.rest.into()).with_context(|| format!("{} does not describe a deployment", path.display()))
    }
}

impl TryFrom<&Outputs> for Deployment {
    type Error = anyhow::Error;

    fn try_from(outputs: &Outputs) -> Result<Self> {
        let staff = outputs.staff_pool().ok().zip(outputs.stack_outputs.get("StaffUserPoolProviderName"));
        Ok(Self {
            api_url: outputs.api_url.clone(),
            region: outputs.region.clone(),
            user_pool_id: outputs.user_pool_id.clone(),
            client_id: outputs.client_id.clone(),
            identity_pool_id: outputs.identity_pool_id.clone(),
            user_pool_provider_name: outputs.stack_output("UserPoolProviderName")?.to_owned(),
            endpoint_url: outputs.endpoint_url.clone(),
            staff: staff.map(|((user_pool_id, client_id), provider)| StaffPool {
                user_pool_id: user_pool_id.to_owned(),
                client_id: client_id.to_owned(),
                user_pool_provider_name: provider.clone(),
            }),
            institutes: None,
        })
    }
}

/// The three tokens of a sign-in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tokens {
    /// Says who the user is, and is what the API and the identity pool take.
    #[serde(rename = "idToken", with = "secret")]
    pub id: SecretString,
    /// Lets users change their own account: a second factor, for instance.
    #[serde(rename = "accessToken", with = "secret")]
    pub access: SecretString,
    /// Gets the other two anew.
    #[serde(rename = "refreshToken", with = "secret")]
    pub refresh: SecretString,
}

/// What the payload of an ID token says. Read, not verified: that is the business of whoever is shown the token.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    /// The account's identifier, which outlives a change of the e-mail address.
    pub sub: String,
    /// The e-mail address.
    #[serde(default)]
    pub email: String,
    /// The institute whose messages the user may read; empty for none.
    #[serde(default, rename = "custom:read")]
    pub read: String,
    /// The institute the user may submit for; empty for none.
    #[serde(default, rename = "custom:write")]
    pub write: String,
    /// The user's groups in the pool.
    #[serde(default, rename = "cognito:groups")]
    pub groups: Vec<String>,
    /// When the token ends, in seconds since 1970.
    exp: i64,
}

impl Claims {
    /// Reads the claims of an ID token.
    ///
    /// # Errors
    /// When it is no token.
    pub fn of(token: &SecretString) -> Result<Self> {
        let payload = token.expose_secret().split('.').nth(1).and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        // The cause would quote the token.
        let claims = payload.and_then(|payload| serde_json::from_slice(&payload).ok());
        claims.context("the session holds no ID token that can be read: sign in again with `sluice login`")
    }

    /// When the token ends.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_second(self.exp).unwrap_or(Timestamp::MIN)
    }

    /// Seconds until the token ends; negative when it has.
    #[must_use]
    pub fn seconds_left(&self, now: Timestamp) -> i64 {
        self.exp.saturating_sub(now.as_second())
    }
}

/// A sign-in: where, who, and the tokens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Where the user is signed in.
    pub deployment: Deployment,
    /// The name the user signed in with.
    pub email: String,
    /// What the sign-in gave.
    #[serde(flatten)]
    pub tokens: Tokens,
}

/// The file of the session.
#[derive(Debug, Clone)]
pub struct SessionFile {
    path: PathBuf,
}

impl SessionFile {
    /// The one that `SLUICE_SESSION` names, or else `$XDG_CONFIG_HOME/sluice/session.json`.
    ///
    /// # Errors
    /// When there is no home folder.
    pub fn find() -> Result<Self> {
        let path = match std::env::var_os(VARIABLE) {
            Some(path) => path.into(),
            None => folders()?.config_dir().join("sluice/session.json"),
        };
        Ok(Self { path })
    }

    /// Reads it, if it is there.
    ///
    /// # Errors
    /// When it cannot be read, or is no session.
    pub fn read(&self) -> Result<Option<Session>> {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", self.path.display())),
        };
        let session = serde_json::from_slice(&text).ok();
        Ok(Some(session.with_context(|| {
            format!("{} is no session of this version: sign in again with `sluice login`", self.path.display())
        })?))
    }

    /// Reads it, and says what to do when nobody is signed in.
    ///
    /// # Errors
    /// As [`SessionFile::read`], and when there is none.
    pub fn signed_in(&self) -> Result<Session> {
        self.read()?.context("nobody is signed in: `sluice login` does that")
    }

    /// Replaces it in one step; readable for nobody else at any time.
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

    /// Writes tokens that were got with the refresh token of `session`, unless somebody has signed in or out meanwhile.
    ///
    /// # Errors
    /// As [`SessionFile::write`].
    pub fn refresh(&self, session: &Session) -> Result<()> {
        match self.read()? {
            Some(kept) if kept.tokens.refresh.expose_secret() == session.tokens.refresh.expose_secret() => self.write(session),
            _ => Ok(()),
        }
    }

    /// Removes it.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove(&self) -> Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("removing {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Where journals are kept: `$XDG_STATE_HOME/sluice`.
///
/// # Errors
/// When there is no home folder.
pub(crate) fn state_folder() -> Result<PathBuf> {
    let folders = folders()?;
    Ok(folders.state_dir().unwrap_or_else(|| folders.data_dir()).join("sluice"))
}

/// Makes a folder that only its owner can look into; one that is there stays as it is.
pub(crate) fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn folders() -> Result<impl BaseStrategy> {
    etcetera::choose_base_strategy()
        .map_err(|error| Environment::lacks(format!("there is no home folder to keep a session in ({error}): set {VARIABLE}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    pub(crate) fn token(claims: &serde_json::Value) -> SecretString {
        SecretString::from(format!("e30.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())))
    }

    pub(crate) fn session(refresh: &str) -> Session {
        let deployment = Deployment {
            api_url: "http://127.0.0.1:1".to_owned(),
            region: "eu-central-1".to_owned(),
            user_pool_id: "eu-central-1_a".to_owned(),
            client_id: "client".to_owned(),
            identity_pool_id: "eu-central-1:pool".to_owned(),
            user_pool_provider_name: "cognito-idp.eu-central-1.amazonaws.com/eu-central-1_a".to_owned(),
            endpoint_url: None,
            staff: None,
            institutes: None,
        };
        let tokens = Tokens {
            id: token(&serde_json::json!({ "sub": "1", "exp": 2_000_000_000 })),
            access: SecretString::from("access-canary"),
            refresh: SecretString::from(refresh),
        };
        Session { deployment, email: "a@b.example".to_owned(), tokens }
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_private_also_where_it_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = SessionFile { path: folder.path().join("new/session.json") };
        assert!(file.read().unwrap().is_none());
        file.write(&session("one")).unwrap();
        assert_eq!((mode(&file.path), mode(file.path.parent().unwrap())), (0o600, 0o700));

        std::fs::set_permissions(&file.path, PermissionsExt::from_mode(0o644)).unwrap();
        file.write(&session("two")).unwrap();
        assert_eq!(mode(&file.path), 0o600);
        assert_eq!(file.signed_in().unwrap().tokens.refresh.expose_secret(), "two");
        // Nothing is left beside it.
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
    fn tokens_do_not_show() {
        let shown = format!("{:?}", session("refresh-canary"));
        assert!(!shown.contains("canary") && !shown.contains("signature"), "{shown}");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("session.json");
        std::fs::write(&path, r#"{"email": "a@b.example", "idToken": "canary"}"#).unwrap();
        let error = format!("{:#}", SessionFile { path }.read().unwrap_err());
        assert!(!error.contains("canary") && error.contains("sign in again"), "{error}");
    }

    #[test]
    fn claims_are_read() {
        let claims = Claims::of(&token(&serde_json::json!({
            "sub": "1", "email": "a@b.example", "custom:read": "west", "cognito:groups": ["night"], "exp": 1_000
        })))
        .unwrap();
        assert_eq!((claims.read.as_str(), claims.write.as_str()), ("west", ""));
        assert_eq!(claims.groups, ["night"]);
        assert_eq!(claims.seconds_left(Timestamp::from_second(1_060).unwrap()), -60);
        for none in ["", "a.b", "a.e30.c", "a.%.c"] {
            assert!(Claims::of(&SecretString::from(none)).is_err(), "{none}");
        }
    }

    #[test]
    fn a_deployment_is_read_from_outputs_without_their_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs.json");
        let mut outputs = serde_json::to_value(session("").deployment).unwrap();
        let provider = outputs.as_object_mut().unwrap().remove("userPoolProviderName").unwrap();
        outputs["stackOutputs"] = serde_json::json!({ "UserPoolProviderName": provider });
        outputs["users"] = serde_json::json!([{ "email": "a@b.example", "password": "canary" }]);
        std::fs::write(&path, outputs.to_string()).unwrap();
        let deployment = Deployment::read(&path).unwrap();
        assert_eq!(deployment, session("").deployment);
        assert!(!serde_json::to_string(&deployment).unwrap().contains("canary"));

        // The shorter file is one as well.
        std::fs::write(&path, serde_json::to_string(&deployment).unwrap()).unwrap();
        assert_eq!(Deployment::read(&path).unwrap(), deployment);
        std::fs::write(&path, r#"{"apiUrl": "https://x"}"#).unwrap();
        assert!(format!("{:#}", Deployment::read(&path).unwrap_err()).contains("missing field `region`"));
    }

    #[test]
    fn a_deployment_names_the_pool_that_is_signed_in_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs.json");
        let written = |value: &serde_json::Value| {
            std::fs::write(&path, value.to_string()).unwrap();
            Deployment::read(&path).unwrap()
        };
        // A file that was handed out when there was no staff's pool.
        let old = written(&serde_json::to_value(session("").deployment).unwrap());
        assert_eq!((old.clone(), old.is_for_staff()), (session("").deployment, false));
        assert!(old.for_staff().unwrap_err().to_string().contains("ask its operator for a new one"));

        let mut outputs = serde_json::to_value(session("").deployment).unwrap();
        outputs["staffUserPoolId"] = "eu-central-1_staff".into();
        outputs["staffClientId"] = "staff-client".into();
        outputs["stackOutputs"] = serde_json::json!({ "StaffUserPoolProviderName": "cognito-idp/staff" });
        let deployment = written(&outputs);
        assert_eq!(deployment.user_pool_id, "eu-central-1_a");
        let staff = deployment.clone().for_staff().unwrap();
        let names = [&staff.user_pool_id, &staff.client_id, &staff.user_pool_provider_name];
        assert_eq!(names, ["eu-central-1_staff", "staff-client", "cognito-idp/staff"]);
        assert!(staff.is_for_staff() && !deployment.is_for_staff());
        assert_eq!(staff.clone().for_staff().unwrap(), staff);
        // The session's file tells it too, and the way back.
        let kept = written(&serde_json::to_value(&staff).unwrap());
        assert_eq!(kept, staff);
        assert_eq!((kept.for_institutes(), deployment.clone().for_institutes()), (deployment.clone(), deployment));
    }
}
