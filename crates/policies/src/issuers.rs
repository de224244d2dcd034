//! The issuers a deployment trusts. Configured per deployment, because pool and client IDs exist only there.

use std::collections::BTreeMap;
use std::str::FromStr;

use serde::Deserialize;

/// The issuers of a deployment, by their names in `providers.json`.
///
/// As JSON: `{"institutes": {"issuer": "https://…", "audiences": ["…"], "jwksUri": "https://…", "constants": {"institute": "…"}},
/// …}`. `jwksUri` and `constants` are optional. An entry with an empty `issuer` is ignored, so that a template can contain a
/// provider that a deployment does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuers(BTreeMap<String, Issuer>);

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Issuer {
    /// The token's `iss`, letter for letter.
    pub issuer: String,
    /// The allowed values of `aud` (`client_id` in an access token of Cognito). Never empty.
    pub audiences: Vec<String>,
    /// The address of its keys, if that is not `<issuer>/.well-known/jwks.json`. HTTPS, or a loopback address.
    #[serde(default)]
    pub jwks_uri: String,
    /// Values that `providers.json` takes from the deployment and not from a claim.
    #[serde(default)]
    pub constants: BTreeMap<String, String>,
}

/// The setting is invalid. Names the entry and never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssuersError {
    /// It is not JSON of this shape.
    #[error("the issuers are not a JSON object of issuers (line {line}, column {column})")]
    Shape {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Two entries have one `iss`, so a token would not tell them apart.
    #[error("two issuers are the same, `{0}` and `{1}`")]
    Twice(String, String),
    /// The issuer's tokens for any audience would be accepted.
    #[error("the issuer `{0}` has no audience")]
    NoAudience(String),
    /// Keys fetched without TLS could be anybody's.
    #[error("the keys of the issuer `{0}` are not at an https address")]
    Insecure(String),
}

impl Issuers {
    /// Name and issuer of each.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Issuer)> {
        self.0.iter().map(|(name, issuer)| (name.as_str(), issuer))
    }
}

impl Issuer {
    /// The address of the keys.
    ///
    /// `cognito` replaces the address of Cognito's user pools, as an SDK's endpoint setting does.
    #[must_use]
    pub fn keys_at(&self, cognito: Option<&str>) -> String {
        if !self.jwks_uri.is_empty() {
            return self.jwks_uri.clone();
        }
        let pool = self.issuer.strip_prefix("https://cognito-idp.").and_then(|it| it.split_once('/')).map(|(_, pool)| pool);
        let base = match (cognito, pool) {
            (Some(endpoint), Some(pool)) => format!("{}/{pool}", endpoint.trim_end_matches('/')),
            _ => self.issuer.trim_end_matches('/').to_owned(),
        };
        format!("{base}/.well-known/jwks.json")
    }
}

impl FromStr for Issuers {
    type Err = IssuersError;

    fn from_str(text: &str) -> Result<Self, IssuersError> {
        let mut issuers: BTreeMap<String, Issuer> =
            serde_json::from_str(text).map_err(|error| IssuersError::Shape { line: error.line(), column: error.column() })?;
        issuers.retain(|_, issuer| !issuer.issuer.is_empty());
        let mut names: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, issuer) in &mut issuers {
            issuer.audiences.retain(|audience| !audience.is_empty());
            if issuer.audiences.is_empty() {
                return Err(IssuersError::NoAudience(name.clone()));
            }
            if !is_secure(&issuer.keys_at(None)) {
                return Err(IssuersError::Insecure(name.clone()));
            }
        }
        for (name, issuer) in &issuers {
            if let Some(other) = names.insert(&issuer.issuer, name) {
                return Err(IssuersError::Twice(other.to_owned(), name.clone()));
            }
        }
        Ok(Self(issuers))
    }
}

/// Whether an address is HTTPS, or plain HTTP to this very machine.
pub(crate) fn is_secure(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    match (url.scheme(), url.host_str()) {
        ("https", Some(_)) => true,
        ("http", Some(host)) => {
            let address = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || address.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COGNITO: &str = "https://cognito-idp.eu-central-1.amazonaws.com/eu-central-1_a";

    fn read(json: serde_json::Value) -> Result<Vec<String>, IssuersError> {
        let issuers: Issuers = json.to_string().parse()?;
        Ok(issuers.iter().map(|(name, _)| name.to_owned()).collect())
    }

    #[test]
    fn an_empty_issuer_or_audience_counts_as_absent() {
        let json = serde_json::json!({
            "institutes": { "issuer": COGNITO, "audiences": ["client", ""] },
            "partners": { "issuer": "", "audiences": [""], "jwksUri": "", "constants": { "institute": "" } },
        });
        assert_eq!(read(json), Ok(vec!["institutes".to_owned()]));
        let nobody = serde_json::json!({ "institutes": { "issuer": COGNITO, "audiences": [""] } });
        assert_eq!(read(nobody), Err(IssuersError::NoAudience("institutes".to_owned())));
    }

    #[test]
    fn no_two_providers_have_one_issuer() {
        let json = serde_json::json!({
            "a": { "issuer": COGNITO, "audiences": ["1"] }, "b": { "issuer": COGNITO, "audiences": ["2"] },
        });
        assert_eq!(read(json), Err(IssuersError::Twice("a".to_owned(), "b".to_owned())));
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for (uri, good) in [
            ("https://idp.example/keys", true),
            ("http://127.0.0.1:8080/keys", true),
            ("http://localhost:8080/keys", true),
            ("http://[::1]:8080/keys", true),
            ("http://idp.example/keys", false),
            ("http://localhost.example/keys", false),
            ("file:///etc/keys", false),
            ("keys", false),
        ] {
            let json = serde_json::json!({ "a": { "issuer": "https://a.example", "audiences": ["1"], "jwksUri": uri } });
            assert_eq!(read(json).is_ok(), good, "{uri}");
        }
        let insecure = serde_json::json!({ "a": { "issuer": "http://a.example", "audiences": ["1"] } });
        assert_eq!(read(insecure), Err(IssuersError::Insecure("a".to_owned())));
    }

    #[test]
    fn an_error_names_the_place_and_not_the_value() {
        let error = "{\"a\": {\"issuer\": \"https://secret.example\", \"audiences\": 7}}".parse::<Issuers>().unwrap_err();
        assert!(!error.to_string().contains("secret") && error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn an_endpoint_moves_the_keys_of_user_pools_only() {
        let issuer = |issuer: &str| Issuer {
            issuer: issuer.to_owned(),
            audiences: vec!["1".to_owned()],
            jwks_uri: String::new(),
            constants: BTreeMap::new(),
        };
        let local = Some("http://127.0.0.1:4566/");
        assert_eq!(issuer(COGNITO).keys_at(local), "http://127.0.0.1:4566/eu-central-1_a/.well-known/jwks.json");
        assert_eq!(issuer(COGNITO).keys_at(None), format!("{COGNITO}/.well-known/jwks.json"));
        assert_eq!(issuer("https://idp.example/").keys_at(local), "https://idp.example/.well-known/jwks.json");
        let elsewhere = Issuer { jwks_uri: "https://keys.example".to_owned(), ..issuer(COGNITO) };
        assert_eq!(elsewhere.keys_at(local), "https://keys.example");
    }
}
