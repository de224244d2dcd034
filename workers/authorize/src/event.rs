//! API Gateway's questions and the answers that it understands.
//!
//! Read field by field: an event of no known shape is answered with a denial, not with an error that quotes it.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};

/// A request about which API Gateway asks the authorizer.
pub(crate) struct AuthorizerRequest {
    /// The route key, or why there is none.
    pub(crate) route: Result<String, &'static str>,
    /// The path parameters, as the API's worker gets them.
    pub(crate) path: BTreeMap<String, String>,
    /// The token, or why there is none.
    pub(crate) token: Result<SecretString, &'static str>,
    form: Form,
}

/// The form of the answer that API Gateway expects.
enum Form {
    /// An HTTP API with payload 2.0 and simple responses.
    Simple,
    /// A REST API (or payload 1.0): an IAM policy on the method that was called.
    Policy { method_arn: String },
}

impl AuthorizerRequest {
    /// Reads an event of a REQUEST authorizer, payload 2.0 or 1.0. Never fails: an event with missing parts leads to a denial.
    pub(crate) fn read(event: &Value) -> Self {
        let text = |name: &str| event.get(name).and_then(Value::as_str);
        let (form, route) = match text("methodArn") {
            None => (Form::Simple, text("routeKey").map(str::to_owned).ok_or("the event has no route")),
            Some(arn) => {
                let key = || Some(format!("{} {}", text("httpMethod")?, text("resource")?));
                let route = if text("type") == Some("TOKEN") {
                    Err("an authorizer of type TOKEN does not get the route: use type REQUEST")
                } else if !is_exact(arn) {
                    Err("the path would be a pattern in an IAM policy")
                } else {
                    key().ok_or("the event has no route")
                };
                (Form::Policy { method_arn: arn.to_owned() }, route)
            }
        };
        let parameters = event.get("pathParameters").and_then(Value::as_object).into_iter().flatten();
        let path = parameters.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect();
        Self { route, path, token: token(event), form }
    }

    /// The answer. `principal` is the caller's subject, if it is known.
    pub(crate) fn answer(&self, allowed: bool, principal: Option<&str>, context: &BTreeMap<String, String>) -> Value {
        match &self.form {
            Form::Simple => json!({ "isAuthorized": allowed, "context": context }),
            Form::Policy { method_arn } => json!({
                "principalId": principal.unwrap_or("unknown"),
                "policyDocument": {
                    "Version": "2012-10-17",
                    "Statement": [{
                        "Action": "execute-api:Invoke",
                        "Effect": if allowed { "Allow" } else { "Deny" },
                        "Resource": method_arn,
                    }],
                },
                "context": context,
            }),
        }
    }
}

/// Whether a method's ARN (`arn:…:<api>/<stage>/<method>/<path>`) matches only itself in an IAM policy. The caller chooses the
/// path. With a wildcard in it, the answer, cached for the token, would apply to other paths too.
fn is_exact(arn: &str) -> bool {
    let path = arn.splitn(3, '/').nth(2);
    path.is_some_and(|path| !path.contains(['*', '?', '$']))
}

/// The one value of `Authorization`, with or without `Bearer`.
fn token(event: &Value) -> Result<SecretString, &'static str> {
    const NONE: &str = "there is no token";
    // A REST API has all values here, and only the last one in `headers`.
    let mut values = header_values(event, "multiValueHeaders");
    if values.is_empty() {
        values = header_values(event, "headers");
    }
    let [value] = values.as_slice() else {
        return Err(if values.is_empty() { NONE } else { "there are several values of `Authorization`" });
    };
    if value.contains(',') {
        return Err("there are several values of `Authorization`");
    }
    let token = runtime::bearer(value);
    if token.is_empty() || token.eq_ignore_ascii_case("bearer") { Err(NONE) } else { Ok(token.into()) }
}

fn header_values<'a>(event: &'a Value, headers: &str) -> Vec<&'a str> {
    let headers = event.get(headers).and_then(Value::as_object).into_iter().flatten();
    let values = headers.filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).map(|(_, value)| value);
    // A value that is not a text counts as well, but is not a token.
    let each = |value: &'a Value| value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
    values.filter(|value| !value.is_null()).flat_map(each).map(|value| value.as_str().unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn read_token(event: &Value) -> Result<String, &'static str> {
        token(event).map(|token| token.expose_secret().to_owned())
    }

    #[test]
    fn the_token_is_the_one_value_of_authorization() {
        for headers in [
            json!({ "authorization": "a.b.c" }),
            json!({ "Authorization": "Bearer a.b.c" }),
            json!({ "AUTHORIZATION": "bearer  a.b.c " }),
            json!({ "authorization": " BEARER\ta.b.c", "accept": "x, y" }),
        ] {
            assert_eq!(read_token(&json!({ "headers": headers })), Ok("a.b.c".to_owned()), "{headers}");
        }
        let several = json!({ "headers": { "Authorization": "b" }, "multiValueHeaders": { "Authorization": ["a.b.c"] } });
        assert_eq!(read_token(&several), Ok("a.b.c".to_owned()), "all values are in the one that has lists");
    }

    #[test]
    fn a_request_with_several_tokens_has_none() {
        for event in [
            json!({ "headers": { "authorization": "a.b.c", "Authorization": "a.b.c" } }),
            json!({ "headers": { "authorization": "a.b.c,d.e.f" } }),
            json!({ "headers": { "authorization": "Bearer a.b.c, Bearer d.e.f" } }),
            json!({ "multiValueHeaders": { "Authorization": ["a.b.c", "d.e.f"] } }),
            json!({ "multiValueHeaders": { "Authorization": ["a.b.c"], "authorization": ["d.e.f"] } }),
            json!({ "headers": { "authorization": "a.b.c" }, "multiValueHeaders": { "Authorization": ["a.b.c", "d.e.f"] } }),
            json!({ "headers": { "authorization": "" } }),
            json!({ "headers": { "authorization": "Bearer" } }),
            json!({ "headers": { "authorization": "Bearer  " } }),
            json!({ "headers": { "authorization": 7 } }),
            json!({ "headers": { "authorization": null } }),
            json!({ "headers": { "authorization": { "a": "b" } } }),
            json!({ "headers": { "x-authorization": "a.b.c" } }),
            json!({ "headers": "authorization: a.b.c" }),
            json!({ "authorizationToken": "a.b.c" }),
            json!([]),
            json!(null),
        ] {
            assert!(read_token(&event).is_err(), "{event}");
        }
    }

    #[test]
    fn a_path_with_a_pattern_in_it_is_not_one_method() {
        let arn = |path: &str| format!("arn:aws:execute-api:eu-central-1:123456789012:api/{path}");
        for exact in ["$default/GET/er7/abc", "dev/GET/", "dev/GET/er7/a-b_c.d~e%2A"] {
            assert!(is_exact(&arn(exact)), "{exact}");
        }
        for pattern in ["dev/GET/er7/*", "dev/GET/er7/a?c", "dev/GET/${aws:username}", "dev/*/er7", "dev", ""] {
            assert!(!is_exact(&arn(pattern)), "{pattern}");
        }
        assert!(!is_exact("") && !is_exact("*"));
    }
}
