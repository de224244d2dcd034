//! Who submits: from the claims that API Gateway's authorizer has verified, and the token they came in.

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::Source;
use runtime::{HttpProblem, claim};
use secrecy::SecretString;

/// The caller of `POST /er7`.
#[derive(Debug)]
pub(crate) struct Caller {
    /// `custom:write`.
    pub source: Source,
    /// `sub`.
    pub subject: String,
    /// `iss`.
    pub issuer: String,
    /// The ID token itself.
    pub token: SecretString,
}

impl Caller {
    /// Reads the caller from a request.
    ///
    /// 401 without a verified ID token, 403 without an institute to write for.
    pub(crate) fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let token = runtime::id_token(request)?;
        let required = |name| claim(request, name).map(str::to_owned).ok_or_else(HttpProblem::unauthorized);
        let write = claim(request, "custom:write").and_then(|it| it.parse().ok());
        Ok(Self {
            subject: required("sub")?,
            issuer: required("iss")?,
            token,
            source: write.ok_or_else(|| HttpProblem::new(403, "Forbidden", "the caller has no institute in `custom:write`"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn caller(authorization: Value, claims: Value) -> Result<Caller, u16> {
        let mut event: Value = serde_json::from_str(include_str!("fixtures/post_er7.json")).unwrap();
        event["headers"]["authorization"] = authorization;
        event["requestContext"]["authorizer"]["jwt"]["claims"] = claims;
        Caller::of(&serde_json::from_value(event).unwrap()).map_err(|problem| problem.status)
    }

    #[test]
    fn without_an_institute_there_is_no_privilege() {
        let long = "x".repeat(65);
        for write in ["", "../x", "a/b", "*", long.as_str()] {
            let claims = json!({ "token_use": "id", "sub": "s", "iss": "i", "custom:write": write });
            assert_eq!(caller(json!("a.b.c"), claims).err(), Some(403), "{write:?}");
        }
        assert_eq!(caller(json!("a.b.c"), json!({ "token_use": "id", "sub": "s", "iss": "i" })).err(), Some(403));
    }

    #[test]
    fn debug_does_not_show_the_token() {
        let claims = json!({ "token_use": "id", "sub": "s", "iss": "i", "custom:write": "general-hospital" });
        assert!(!format!("{:?}", caller(json!("secret-token"), claims)).contains("secret-token"));
    }
}
