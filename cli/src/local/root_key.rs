//! The key of the local AWS's account root.
//!
//! Any web page and any user of the machine reaches a port of the loopback interface, so the key is a secret: random for each
//! start, in a file that only its owner reads. It has the form of the AWS CLI's credentials file.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};

use super::users::random_bytes;
use client::aws::RootKey;
use client::private_file;

const ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";

/// Makes a new key in this file.
pub(super) fn create(path: &Path) -> Result<()> {
    let id = const_hex::encode_upper(random_bytes::<8>()?);
    let secret = SecretString::from(BASE64_URL_SAFE_NO_PAD.encode(random_bytes::<30>()?));
    let text = format!("[default]\n{ID} = AKIA{id}\n{SECRET} = {}\n", secret.expose_secret());
    private_file::write(path, text.as_bytes())
}

/// The key in this file.
pub(super) fn read(path: &Path) -> Result<RootKey> {
    let text = std::fs::read_to_string(path).with_context(|| {
        format!("reading {}; `sluice local up --replace` starts a new local AWS with a new key", path.display())
    })?;
    let value = |name: &str| {
        let values = text.lines().filter_map(|line| line.split_once('='));
        let value = values.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned()).next();
        value.with_context(|| format!("{} has no `{name}`", path.display()))
    };
    Ok(RootKey { access_key_id: value(ID)?, secret_access_key: SecretString::from(value(SECRET)?) })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn each_start_has_a_key_of_its_own_that_nobody_else_reads() {
        let folder = std::env::temp_dir().join(format!("sluice-root-key-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("credentials");
        let keys = [(); 2].map(|()| {
            create(&path).unwrap();
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            read(&path).unwrap()
        });
        assert_eq!(keys[0].access_key_id.len(), 20);
        assert_eq!(keys[0].secret_access_key.expose_secret().len(), 40);
        assert_ne!(keys[0].access_key_id, keys[1].access_key_id);
        assert_ne!(keys[0].secret_access_key.expose_secret(), keys[1].secret_access_key.expose_secret());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
