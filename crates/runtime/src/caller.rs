//! The caller of the API, as verified by either authorizer: the Lambda authorizer (all providers) or API Gateway's JWT authorizer (one
//! user pool).

use aws_lambda_events::apigw::{ApiGatewayRequestAuthorizer, ApiGatewayV2httpRequest};
use domain::Source;
use secrecy::SecretString;
use serde_json::Value;

use crate::http::header;
use crate::{Field, HttpProblem, log_field, log_subject};

/// The caller of a request, as verified by the authorizer, and the ID token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// The institute whose messages the caller may read.
    pub read: Option<Source>,
    /// The institute that the caller may submit for.
    pub write: Option<Source>,
    /// The ID token itself.
    pub token: SecretString,
}

impl Caller {
    /// Reads the caller of a request, and logs who it is. An empty or invalid institute grants nothing.
    ///
    /// # Errors
    /// 401 without the ID token of a verified caller. An access token names no institute and cannot be exchanged.
    pub fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let authorizer = request.request_context.authorizer.as_ref().ok_or_else(HttpProblem::unauthorized)?;
        let facts = Facts::of(authorizer)?;
        let required = |name| facts.get(name).map(str::to_owned).ok_or_else(HttpProblem::unauthorized);
        let institute = |name| facts.get(name).and_then(|it| it.parse().ok());
        let (issuer, subject) = (required(facts.names.issuer)?, required(facts.names.subject)?);
        log_field(Field::Issuer, &issuer);
        log_subject(&subject);
        Ok(Self {
            issuer,
            subject,
            read: institute(facts.names.read),
            write: institute(facts.names.write),
            token: token(request).ok_or_else(HttpProblem::unauthorized)?,
        })
    }

    /// The institute that the caller submits for. Logs it.
    ///
    /// # Errors
    /// 403 without such a right.
    pub fn writes_for(&self) -> Result<&Source, HttpProblem> {
        institute(self.write.as_ref(), "submit for")
    }

    /// The institute that the caller reads from. Logs it.
    ///
    /// # Errors
    /// 403 without such a right.
    pub fn reads_from(&self) -> Result<&Source, HttpProblem> {
        institute(self.read.as_ref(), "read from")
    }
}

fn institute<'a>(source: Option<&'a Source>, what: &str) -> Result<&'a Source, HttpProblem> {
    let source = source.ok_or_else(|| HttpProblem::new(403, "Forbidden", format!("the caller has no institute to {what}")))?;
    log_field(Field::Source, source);
    Ok(source)
}

/// The facts from the authorizer, and their names.
struct Facts<'a> {
    names: &'static Names,
    authorizer: &'a ApiGatewayRequestAuthorizer,
}

struct Names {
    issuer: &'static str,
    subject: &'static str,
    token_use: &'static str,
    read: &'static str,
    write: &'static str,
}

/// The claims of the user pool's ID token.
const CLAIMS: Names = Names { issuer: "iss", subject: "sub", token_use: "token_use", read: "custom:read", write: "custom:write" };

/// The context of the worker `authorize`, the same for every provider.
const CONTEXT: Names = Names { issuer: "issuer", subject: "subject", token_use: "tokenUse", read: "read", write: "write" };

impl<'a> Facts<'a> {
    fn of(authorizer: &'a ApiGatewayRequestAuthorizer) -> Result<Self, HttpProblem> {
        let names = if authorizer.jwt.is_some() { &CLAIMS } else { &CONTEXT };
        let facts = Self { names, authorizer };
        let is_id_token = match facts.get(names.token_use) {
            Some(token_use) => token_use == "id",
            // Only Cognito's tokens have the claim `token_use`. For other providers, the authorizer has already decided which
            // tokens it accepts.
            None => authorizer.jwt.is_none(),
        };
        if is_id_token { Ok(facts) } else { Err(HttpProblem::unauthorized()) }
    }

    /// The member with that name. An empty one counts as absent.
    fn get(&self, name: &str) -> Option<&'a str> {
        let value = match &self.authorizer.jwt {
            Some(jwt) => jwt.claims.get(name).map(String::as_str),
            None => self.authorizer.fields.get(name).and_then(Value::as_str),
        };
        value.filter(|value| !value.is_empty())
    }
}

fn token(request: &ApiGatewayV2httpRequest) -> Option<SecretString> {
    Some(bearer(header(request, "authorization")?).into())
}

/// The token in a header `Authorization`, with or without `Bearer` (in any case) before it (RFC 6750 §2.1).
pub fn bearer(authorization: &str) -> &str {
    let authorization = authorization.trim();
    match authorization.split_once(char::is_whitespace) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
        _ => authorization,
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    use super::*;

    fn identity(authorization: &str, authorizer: &Value) -> Result<Caller, u16> {
        let event = json!({
            "headers": { "authorization": authorization },
            "requestContext": { "http": { "method": "GET" }, "authorizer": authorizer },
        });
        Caller::of(&serde_json::from_value(event).unwrap()).map_err(|problem| problem.status)
    }

    fn claims(token_use: &str, institute: &str) -> Value {
        json!({ "jwt": { "claims": {
            "iss": "i", "sub": "s", "token_use": token_use, "custom:read": institute, "custom:write": institute,
        } } })
    }

    fn context(token_use: Value, institute: &str) -> Value {
        let mut context = json!({ "lambda": {
            "provider": "p", "issuer": "i", "subject": "s", "read": institute, "write": institute,
        } });
        if !token_use.is_null() {
            context["lambda"]["tokenUse"] = token_use;
        }
        context
    }

    #[test]
    fn both_authorizers_say_the_same_of_a_caller() {
        for authorizer in [claims("id", "west"), context("id".into(), "west"), context(Value::Null, "west")] {
            let it = identity("a.b.c", &authorizer).unwrap();
            assert_eq!((it.issuer.as_str(), it.subject.as_str()), ("i", "s"));
            assert_eq!((it.reads_from().unwrap().as_str(), it.writes_for().unwrap().as_str()), ("west", "west"));
        }
    }

    #[test]
    fn the_token_comes_with_or_without_bearer() {
        for authorization in ["a.b.c", "Bearer a.b.c", "bearer  a.b.c", "BEARER\ta.b.c "] {
            let it = identity(authorization, &claims("id", "west")).unwrap();
            assert_eq!(it.token.expose_secret(), "a.b.c");
            assert!(!format!("{it:?}").contains("a.b.c"));
        }
    }

    #[test]
    fn an_access_token_or_no_token_makes_no_caller() {
        for authorizer in [
            claims("access", "west"),
            claims("", "west"),
            context("access".into(), "west"),
            json!({ "lambda": {} }),
            json!({ "lambda": { "issuer": "i", "read": "west" } }),
            json!({ "lambda": { "issuer": ["i"], "subject": "s" } }),
            json!({ "jwt": { "claims": {} } }),
            // Claims of a JWT authorizer do not count as the Lambda authorizer's context, nor the other way round.
            json!({ "lambda": { "iss": "i", "sub": "s", "custom:read": "west" } }),
            json!({ "jwt": { "claims": { "token_use": "id", "issuer": "i", "subject": "s" } } }),
            Value::Null,
        ] {
            assert_eq!(identity("a.b.c", &authorizer).err(), Some(401), "{authorizer}");
        }
    }

    #[test]
    fn without_an_institute_there_is_no_privilege() {
        let long = "x".repeat(65);
        for institute in ["", "../x", "a/b", "*", long.as_str()] {
            for authorizer in [claims("id", institute), context("id".into(), institute)] {
                let it = identity("a.b.c", &authorizer).unwrap();
                let refused = [it.reads_from().err(), it.writes_for().err()].map(|it| it.map(|problem| problem.status));
                assert_eq!(refused, [Some(403), Some(403)], "{institute:?}");
            }
        }
    }
}
