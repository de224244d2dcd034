//! Which deployment a console shows, and what its page may talk to.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use client::outputs::Outputs;
use reqwest::Url;
use serde::Serialize;

/// `settings.json` of the console. Nothing in it is secret.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    stack: String,
    region: String,
    /// The local AWS; empty where AWS itself is used.
    endpoint_url: String,
    api_url: String,
    bucket: String,
    table: String,
    identity_pool_id: String,
    /// Whether the catalog has the index by control id (`SearchIndexes`).
    has_search_indexes: bool,
    audiences: Vec<Audience>,
    /// Institutes that staff are offered by name: those of the local system's users.
    institutes: BTreeSet<String>,
}

/// One of the two groups of people, each of which has a user pool of its own.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Audience {
    name: &'static str,
    issuer: String,
    client_id: String,
    sign_in_url: String,
}

impl Settings {
    /// The settings for a deployment.
    ///
    /// # Errors
    /// When it has no app client for browsers: `CallbackUrls` and `DomainPrefix` were not set.
    pub fn of(outputs: &Outputs) -> Result<Self> {
        let output = |name: &str| outputs.stack_outputs.get(name).filter(|it| !it.is_empty()).cloned();
        let endpoint_url = outputs.endpoint_url.clone().unwrap_or_default();
        let audience = |name, issuer: &str, client: &str, domain: &str| {
            // The local AWS serves the pages at its own address, whatever their domain.
            let domain = output(domain).map(|it| if endpoint_url.is_empty() { it } else { endpoint_url.clone() });
            Some(Audience { name, issuer: output(issuer)?, client_id: output(client)?, sign_in_url: domain? })
        };
        let audiences: Vec<Audience> = [
            audience(client::outputs::INSTITUTES, "UserPoolIssuer", "BrowserClientId", "UserPoolDomain"),
            audience(client::outputs::LAKE_STAFF, "StaffUserPoolIssuer", "StaffUserPoolClientId", "StaffUserPoolDomain"),
        ]
        .into_iter()
        .flatten()
        .collect();
        ensure!(
            !audiences.is_empty(),
            "the deployment `{}` has no sign-in for browsers: deploy it with the parameters DomainPrefix, CallbackUrls, LogoutUrls \
             and AllowedOrigins (docs/CONSOLE.md)",
            outputs.stack
        );
        let users = outputs.users.iter().flat_map(|user| [&user.read, &user.write]);
        Ok(Self {
            stack: outputs.stack.clone(),
            region: outputs.region.clone(),
            api_url: outputs.api_url.clone(),
            bucket: outputs.bucket.clone(),
            table: outputs.table.clone(),
            identity_pool_id: outputs.identity_pool_id.clone(),
            has_search_indexes: output("SearchIndexes").as_deref() == Some("true"),
            audiences,
            institutes: users.filter(|it| !it.is_empty()).cloned().collect(),
            endpoint_url,
        })
    }

    /// The origins that the page talks to, beside its own.
    ///
    /// # Errors
    /// When the deployment has an invalid address.
    pub fn origins(&self) -> Result<BTreeSet<String>> {
        let mut addresses: Vec<String> = self.audiences.iter().map(|it| it.sign_in_url.clone()).collect();
        addresses.push(self.api_url.clone());
        if self.endpoint_url.is_empty() {
            addresses.extend(["dynamodb", "cognito-identity"].map(|it| format!("https://{it}.{}.amazonaws.com", self.region)));
            addresses.push(format!("https://{}.s3.{}.amazonaws.com", self.bucket, self.region));
        } else {
            addresses.push(self.endpoint_url.clone());
        }
        let origin = |address: String| {
            let url = Url::parse(&address).with_context(|| format!("{address} is no address"))?;
            Ok(url.origin().ascii_serialization())
        };
        addresses.into_iter().map(origin).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn outputs(endpoint: Option<&str>, more: &[(&str, &str)]) -> Outputs {
        let names = [
            "ApiId",
            "ApiUrl",
            "UserPoolId",
            "UserPoolClientId",
            "IdentityPoolId",
            "LakeBucketName",
            "OverflowBucketName",
            "ArtifactBucketName",
            "CatalogTableName",
            "TopicArn",
            "QueueUrl",
            "DeadLetterQueueUrl",
            "StateMachineArn",
            "UserPoolIssuer",
            "StaffUserPoolIssuer",
        ];
        let mut outputs: BTreeMap<String, String> =
            names.map(|name| (name.to_owned(), format!("https://{}.example", name.to_lowercase()))).into();
        outputs.insert("LakeBucketName".to_owned(), "lake".to_owned());
        outputs.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Outputs::gather("sluice", "eu-central-1", endpoint, outputs).unwrap()
    }

    const BROWSER: [(&str, &str); 2] =
        [("BrowserClientId", "browser"), ("UserPoolDomain", "https://lake.auth.eu-central-1.amazoncognito.com")];

    #[test]
    fn a_page_on_aws_talks_to_the_services_of_its_deployment_and_nothing_else() {
        let settings = Settings::of(&outputs(None, &BROWSER)).unwrap();
        let origins: Vec<String> = settings.origins().unwrap().into_iter().collect();
        assert_eq!(
            origins,
            [
                "https://apiurl.example",
                "https://cognito-identity.eu-central-1.amazonaws.com",
                "https://dynamodb.eu-central-1.amazonaws.com",
                "https://lake.auth.eu-central-1.amazoncognito.com",
                "https://lake.s3.eu-central-1.amazonaws.com",
            ]
        );
    }

    #[test]
    fn a_page_of_the_local_system_talks_to_the_local_aws_alone() {
        let settings = Settings::of(&outputs(Some("http://127.0.0.1:4566"), &BROWSER)).unwrap();
        assert_eq!(settings.origins().unwrap().into_iter().collect::<Vec<_>>(), ["http://127.0.0.1:4566"]);
    }

    #[test]
    fn a_deployment_without_a_client_for_browsers_is_told_what_it_lacks() {
        let error = Settings::of(&outputs(None, &[("BrowserClientId", "")])).unwrap_err().to_string();
        assert!(error.contains("CallbackUrls"), "{error}");
    }
}
