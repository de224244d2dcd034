//! Which deployment a user's programs talk to.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::outputs::Outputs;

/// The part of a deployment that a user's programs must know: a few names from its outputs, none of them secret.
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
    /// The catalog table; absent in files that were handed out before users read it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The local AWS; absent where AWS itself is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// The pool of the lake's own staff; absent in files that were handed out before that pool existed.
    #[serde(flatten)]
    pub staff: Option<StaffPool>,
    /// The institutes' pool, while [`Deployment::for_staff`] has replaced it with the staff's.
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

    /// Reads the file that an operator hands out: the outputs of a deployment (`sluice deploy --json`), or this type as JSON.
    /// Ignores everything else in it, such as the passwords of local users.
    ///
    /// # Errors
    /// When the file does not exist, or lacks a name.
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
            table: Some(outputs.table.clone()),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn deployment() -> Deployment {
        Deployment {
            api_url: "http://127.0.0.1:1".to_owned(),
            region: "eu-central-1".to_owned(),
            user_pool_id: "eu-central-1_a".to_owned(),
            client_id: "client".to_owned(),
            identity_pool_id: "eu-central-1:pool".to_owned(),
            user_pool_provider_name: "cognito-idp.eu-central-1.amazonaws.com/eu-central-1_a".to_owned(),
            table: None,
            endpoint_url: None,
            staff: None,
            institutes: None,
        }
    }

    #[test]
    fn a_deployment_is_read_from_outputs_without_their_passwords() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs.json");
        let mut outputs = serde_json::to_value(deployment()).unwrap();
        let provider = outputs.as_object_mut().unwrap().remove("userPoolProviderName").unwrap();
        outputs["stackOutputs"] = serde_json::json!({ "UserPoolProviderName": provider });
        outputs["users"] = serde_json::json!([{ "email": "a@b.example", "password": "canary" }]);
        std::fs::write(&path, outputs.to_string()).unwrap();
        let read = Deployment::read(&path).unwrap();
        assert_eq!(read, deployment());
        assert!(!serde_json::to_string(&read).unwrap().contains("canary"));

        // The shorter file is valid as well.
        std::fs::write(&path, serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(Deployment::read(&path).unwrap(), read);
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
        // A file from before the staff's pool.
        let old = written(&serde_json::to_value(deployment()).unwrap());
        assert_eq!((old.clone(), old.is_for_staff()), (deployment(), false));
        assert!(old.for_staff().unwrap_err().to_string().contains("ask its operator for a new one"));

        let mut outputs = serde_json::to_value(deployment()).unwrap();
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
        // The session's file keeps both pools, so the way back works too.
        let kept = written(&serde_json::to_value(&staff).unwrap());
        assert_eq!(kept, staff);
        assert_eq!((kept.for_institutes(), deployment.clone().for_institutes()), (deployment.clone(), deployment));
    }
}
