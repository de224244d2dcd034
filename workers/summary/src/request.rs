//! What a caller asks for: the institute that IAM has compared with the caller's tag, and a range of time.

use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayV2httpRequest;
use domain::{Source, Timestamp};
use runtime::HttpProblem;

/// The range if only its end is given.
const DEFAULT_RANGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The time range in which the counted messages were first received: `from` or later, and before `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Timestamp,
    pub(crate) to: Timestamp,
}

/// The institute in the path. 401 if IAM has not authorized the request, 400 if the path names no institute.
///
/// IAM has judged the path as API Gateway received it, and the parameter is API Gateway's reading of it. Both must be the same
/// characters: an institute's name needs no escape, and a path with escapes, dots or more slashes is not an institute's.
pub(crate) fn institute(request: &ApiGatewayV2httpRequest) -> Result<Source, HttpProblem> {
    let authorizer = request.request_context.authorizer.as_ref();
    if authorizer.and_then(|it| it.iam.as_ref()).is_none() {
        return Err(HttpProblem::new(401, "Unauthorized", "the request must be signed with AWS credentials"));
    }
    let name = request.path_parameters.get("source").map_or("", String::as_str);
    let source = name.parse::<Source>().map_err(|error| invalid_institute(error.to_string()))?;
    let is_whole = |path: &Option<String>| path.as_deref() == Some(&format!("/institutes/{source}/summary"));
    if !is_whole(&request.raw_path) || !is_whole(&request.request_context.http.path) {
        return Err(invalid_institute("the path is /institutes/INSTITUTE/summary, without escapes".to_owned()));
    }
    Ok(source)
}

fn invalid_institute(detail: String) -> HttpProblem {
    HttpProblem::new(400, "Invalid institute", detail)
}

/// The time range in the query. Without `to` it ends now, without `from` it is 24 hours long. 400 names the mistake and never
/// quotes it.
pub(crate) fn range(request: &ApiGatewayV2httpRequest, now: Timestamp) -> Result<Range, HttpProblem> {
    let invalid = |detail: &str| HttpProblem::new(400, "Invalid query", detail);
    let (mut from, mut to) = (None, None);
    for (name, value) in request.query_string_parameters.iter() {
        if request.query_string_parameters.all(name).is_some_and(|values| values.len() > 1) {
            return Err(invalid("a parameter is given once, and has no comma in it"));
        }
        let end = match name {
            "from" => &mut from,
            "to" => &mut to,
            _ => return Err(invalid("the parameters are `from` and `to`")),
        };
        let time = Timestamp::range_end(value);
        let time = time.ok_or_else(|| {
            invalid(&format!("`{name}` must be an RFC 3339 timestamp or YYYY-MM-DD; a + in a query is written %2B"))
        })?;
        *end = Some(time);
    }
    let to = to.unwrap_or(now);
    let from = from.or_else(|| Timestamp::from_millis(to.as_millis() - i64::try_from(DEFAULT_RANGE.as_millis()).ok()?));
    let range = from.map(|from| Range { from, to }).filter(|it| it.from < it.to);
    range.ok_or_else(|| invalid("`from` must be before `to`"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(parameter: &str, path: &str, authorizer: &Value, query: &Value) -> ApiGatewayV2httpRequest {
        serde_json::from_value(json!({
            "rawPath": path,
            "pathParameters": { "source": parameter },
            "queryStringParameters": query,
            "requestContext": { "http": { "method": "GET", "path": path }, "authorizer": authorizer },
        }))
        .unwrap()
    }

    #[test]
    fn the_institute_is_the_one_whose_path_iam_has_judged() {
        let by_iam = json!({ "iam": { "accountId": "1", "cognitoIdentity": null, "principalOrgId": null, "userArn": "arn" } });
        let asked = |parameter: &str, path: &str, by: &Value| {
            institute(&request(parameter, path, by, &json!({}))).map(|it| it.to_string()).map_err(|it| it.status)
        };
        for name in ["west", "a", "st.elsewhere_2-b"] {
            assert_eq!(asked(name, &format!("/institutes/{name}/summary"), &by_iam), Ok(name.to_owned()));
        }
        let table = [
            ("west", "/institutes/east/summary"),
            ("west", "/institutes/west%2F..%2Feast/summary"),
            ("west", "/institutes/%77est/summary"),
            ("west", "//institutes/west/summary"),
            ("west", "/institutes//west/summary"),
            ("west", "/institutes/east/../west/summary"),
            ("west", "/institutes/west/summary/"),
            ("west", "/prod/institutes/west/summary"),
            ("east/../west", "/institutes/east/../west/summary"),
            ("east%2F..%2Fwest", "/institutes/east%2F..%2Fwest/summary"),
            ("", "/institutes//summary"),
            ("*", "/institutes/*/summary"),
            ("..", "/institutes/../summary"),
        ];
        for (parameter, path) in table {
            assert_eq!(asked(parameter, path, &by_iam), Err(400), "{parameter} {path}");
        }
        for other in [json!(null), json!({}), json!({ "lambda": { "read": "west" } }), json!({ "jwt": { "claims": {} } })] {
            assert_eq!(asked("west", "/institutes/west/summary", &other), Err(401), "{other}");
        }
    }

    #[test]
    fn a_range_is_a_day_unless_both_ends_are_given() {
        let now = Timestamp::range_end("2026-11-21T07:00:00Z").unwrap();
        let asked = |query: Value| {
            let range = range(&request("w", "/", &json!({}), &query), now);
            range.map(|it| [it.from, it.to].map(|it| it.to_string())).map_err(|problem| problem.detail)
        };
        let times = |from: &str, to: &str| Ok([from.to_owned(), to.to_owned()]);
        assert_eq!(asked(json!({})), times("2026-11-20T07:00:00.000Z", "2026-11-21T07:00:00.000Z"));
        assert_eq!(asked(json!({ "from": "2026-11-01" })), times("2026-11-01T00:00:00.000Z", "2026-11-21T07:00:00.000Z"));
        assert_eq!(asked(json!({ "to": "2026-11-01" })), times("2026-10-31T00:00:00.000Z", "2026-11-01T00:00:00.000Z"));
        for (query, says) in [
            (json!({ "from": "SECRET" }), "`from`"),
            (json!({ "to": "" }), "`to`"),
            (json!({ "type": "SECRET" }), "`from` and `to`"),
            (json!({ "from": "2026-11-01,2026-11-02" }), "once"),
            (json!({ "from": "2026-11-22" }), "before"),
            (json!({ "from": "2026-11-02", "to": "2026-11-02" }), "before"),
        ] {
            let detail = asked(query.clone()).unwrap_err();
            assert!(detail.contains(says) && !detail.contains("SECRET"), "{query}: {detail}");
        }
    }
}
