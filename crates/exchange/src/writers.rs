//! The institute that a token's claims let its user write for.

use std::collections::BTreeMap;
use std::str::FromStr;

use domain::Source;
use secrecy::SecretString;
use serde::Deserialize;

use crate::exchange::claims;

/// For each issuer of the deployment, how its tokens name the institute to write for. It repeats the mapping that the identity
/// stack gives to IAM, only to find out whose fault a refusal is. It allows nothing.
///
/// As JSON: `{"<iss>": {"claim": "custom:write"}, "<iss>": {"institute": "north-lab"}}`. The tokens of other issuers have none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Writers(BTreeMap<String, Writer>);

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Writer {
    /// The claim names the institute.
    Claim(String),
    /// All of the issuer's users write for one institute. Empty if the deployment has no such issuer.
    Institute(String),
}

impl Writers {
    /// The institute that a token names to write for. The signature is not checked here: Cognito does that before it gives
    /// credentials.
    pub fn institute(&self, token: &SecretString) -> Option<Source> {
        let claims = claims(token)?;
        match self.0.get(&claims.iss)? {
            Writer::Claim(name) => claims.others.get(name)?.as_str()?.parse().ok(),
            Writer::Institute(name) => name.parse().ok(),
        }
    }
}

impl FromStr for Writers {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    fn token(mut claims: Value) -> SecretString {
        claims["sub"] = json!("user");
        claims["exp"] = json!(4_000_000_000_u64);
        format!("header.{}.signature", BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())).into()
    }

    #[test]
    fn a_token_names_its_institute_by_the_mapping_of_its_issuer_alone() {
        let json = r#"{"https://users":{"claim":"custom:write"},"https://partner":{"institute":"lab"},"":{"institute":""}}"#;
        let writers: Writers = json.parse().unwrap();
        let institute = |claims| writers.institute(&token(claims)).map(|it| it.to_string());
        for (claims, expected) in [
            (json!({ "iss": "https://users", "custom:write": "a" }), Some("a")),
            (json!({ "iss": "https://users" }), None),
            (json!({ "iss": "https://users", "custom:write": "" }), None),
            (json!({ "iss": "https://users", "custom:write": ["a"] }), None),
            (json!({ "iss": "https://users", "custom:write": "../a" }), None),
            (json!({ "iss": "https://users", "custom:read": "a" }), None),
            (json!({ "iss": "https://partner", "custom:write": "a" }), Some("lab")),
            (json!({ "iss": "https://staff", "custom:write": "a" }), None),
            (json!({ "iss": "" }), None),
        ] {
            assert_eq!(institute(claims.clone()).as_deref(), expected, "{claims}");
        }
        assert_eq!(writers.institute(&"no token".into()), None);
        assert!(r#"{"https://users":{"constant":"a"}}"#.parse::<Writers>().is_err());
    }
}
