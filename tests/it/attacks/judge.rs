//! The second judge: the deployed policies, evaluated by the crate `iam-rs`, which shares no code with the local AWS.
//!
//! `iam-rs` 0.8.0 has four gaps that matter here. It substitutes variables in `Resource` and not in conditions; it takes
//! `${*}` for the name of a key; a variable without a value becomes an empty text instead of matching nothing; and a `*`
//! that comes in by a variable acts as a pattern. So the variables are put in before it sees a policy, as IAM's
//! guide says ("Variables and tags"), with characters that occur nowhere else in the place of what is to be literal.
//! Effects, actions, patterns, operators, sets and missing keys are all left to it.

use anyhow::{Context as _, Result};
use iam_rs::{Arn, Context, ContextValue, Decision, IAMPolicy, IAMRequest, PolicyEvaluator, Principal, PrincipalId};
use serde_json::{Value, json};

use super::call::Ask;

/// A literal `*` and `?`, and a value that nothing equals. Unicode has these for private use within a program.
const STAR: &str = "\u{fdd0}";
const QUESTION: &str = "\u{fdd1}";
const NOTHING: &str = "\u{fdd2}";

/// Policies that apply together: those of the role and that of the bucket.
#[derive(Debug)]
pub(super) struct Judge {
    policies: Vec<Value>,
}

/// The session tags of a caller. A tag that is not there has no value; an empty one has an empty value, which is the
/// reading that grants more.
pub(super) type Tags = Vec<(&'static str, String)>;

impl Judge {
    pub(super) fn new(policies: Vec<Value>) -> Self {
        Self { policies }
    }

    /// Whether a caller with these tags may.
    pub(super) fn allows(&self, tags: &Tags, ask: &Ask) -> Result<bool> {
        let mut evaluator = PolicyEvaluator::new();
        for policy in &self.policies {
            let policy: IAMPolicy = serde_json::from_value(substituted(policy, tags)?)?;
            evaluator.add_policy(policy);
        }
        let mut context = Context::new().with_boolean("aws:SecureTransport", true);
        for (tag, value) in tags {
            context.insert(format!("aws:PrincipalTag/{tag}"), ContextValue::String(literal(value)));
        }
        for (key, values) in &ask.keys {
            let value = match values.as_slice() {
                [value] => ContextValue::String(literal(value)),
                values => ContextValue::StringList(values.iter().map(|value| literal(value)).collect()),
            };
            context.insert(key.clone(), value);
        }
        let caller = "arn:aws:sts::000000000000:assumed-role/user/CognitoIdentityCredentials";
        let request = IAMRequest::new_with_context(
            Principal::Aws(PrincipalId::String(caller.to_owned())),
            &ask.action,
            Arn::parse(&literal(&ask.resource)).map_err(|error| anyhow::anyhow!("{}: {error}", ask.resource))?,
            context,
        );
        let result = evaluator.evaluate(&request).map_err(|error| anyhow::anyhow!("{ask:?}: {error}"))?;
        Ok(result.decision == Decision::Allow)
    }
}

fn literal(text: &str) -> String {
    text.replace('*', STAR).replace('?', QUESTION)
}

/// A policy with its variables put in.
fn substituted(policy: &Value, tags: &Tags) -> Result<Value> {
    Ok(match policy {
        Value::String(text) => Value::String(substituted_text(text, tags)?),
        Value::Array(list) => Value::Array(list.iter().map(|it| substituted(it, tags)).collect::<Result<_>>()?),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, it)| Ok((name.clone(), substituted(it, tags)?))).collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

fn substituted_text(text: &str, tags: &Tags) -> Result<String> {
    let mut parts = text.split("${");
    let mut done = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').with_context(|| format!("a variable without an end in `{text}`"))?;
        let value = match name {
            "*" => STAR.to_owned(),
            "?" => QUESTION.to_owned(),
            "$" => "$".to_owned(),
            name => {
                let tag = name.strip_prefix("aws:PrincipalTag/").with_context(|| format!("an unknown variable `{name}`"))?;
                tags.iter().find(|(it, _)| *it == tag).map_or(NOTHING.to_owned(), |(_, value)| literal(value))
            }
        };
        done = done + &value + rest;
    }
    Ok(done)
}

/// Before it judges ours: what IAM's guide says about the very features that our policies rest on.
#[test]
fn the_second_judge_knows_iam() -> Result<()> {
    let may = |condition: Value, tags: &Tags, ask: &Ask| {
        let statement = json!({ "Effect": "Allow", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/${aws:PrincipalTag/read}/*",
            "Condition": condition });
        let deny = json!({ "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::b/*/denied" });
        let policy = |statement: Value| json!({ "Version": "2012-10-17", "Statement": [statement] });
        Judge::new(vec![policy(statement), policy(deny)]).allows(tags, ask)
    };
    let tagged = |read: &str| vec![("read", read.to_owned())];
    let get = |key: &str| Ask::new("s3:GetObject", format!("arn:aws:s3:::b/{key}"));
    let (a, none, star) = (tagged("a"), Vec::new(), tagged("*"));
    let no = || json!({});

    // Variables in a resource; a missing one matches nothing; a value is no pattern.
    assert!(may(no(), &a, &get("a/x"))? && !may(no(), &a, &get("b/x"))?);
    assert!(!may(no(), &none, &get("/x"))? && !may(no(), &none, &get("a/x"))?);
    assert!(!may(no(), &star, &get("a/x"))? && may(no(), &star, &get("*/x"))?);
    // Action patterns; a denial wins; another action is nobody's.
    assert!(may(no(), &a, &Ask::new("s3:GetObjectTagging", "arn:aws:s3:::b/a/x"))?);
    assert!(!may(no(), &a, &get("a/denied"))? && !may(no(), &a, &Ask::new("s3:PutObject", "arn:aws:s3:::b/a/x"))?);
    // Variables in a condition; a missing key; case counts.
    let equals = || json!({ "StringEquals": { "s3:ExistingObjectTag/source": "${aws:PrincipalTag/read}" } });
    let of = |source: &str| get("a/x").key("s3:ExistingObjectTag/source", source);
    assert!(may(equals(), &a, &of("a"))? && !may(equals(), &a, &of("b"))? && !may(equals(), &a, &of("A"))?);
    assert!(!may(equals(), &a, &get("a/x"))? && !may(equals(), &star, &get("*/x").key("s3:ExistingObjectTag/source", "a"))?);
    // An empty value is like "?*" no more than a missing one; ${*} and ${?} are these characters.
    let some = || json!({ "StringLike": { "aws:PrincipalTag/read": "?*" } });
    assert!(may(some(), &a, &get("a/x"))? && !may(some(), &tagged(""), &get("/x"))?);
    let plain = || json!({ "StringNotLike": { "aws:PrincipalTag/read": ["*/*", "*${*}*", "*${?}*"] } });
    assert!(may(plain(), &a, &get("a/x"))?);
    for odd in ["a/b", "*", "a*", "?", "a?b"] {
        assert!(may(no(), &tagged(odd), &get(&format!("{odd}/x")))? && !may(plain(), &tagged(odd), &get(&format!("{odd}/x")))?);
    }
    // ForAllValues is true of a missing key, which Null tells apart.
    let leading = |null: bool| {
        let mut condition = json!({ "ForAllValues:StringEquals": { "dynamodb:LeadingKeys": ["${aws:PrincipalTag/read}"] } });
        if null {
            condition["Null"] = json!({ "dynamodb:LeadingKeys": "false" });
        }
        condition
    };
    let keys = |keys: &[&str]| get("a/x").keys("dynamodb:LeadingKeys", keys.iter().map(|&it| it.to_owned()));
    assert!(may(leading(true), &a, &keys(&["a"]))? && may(leading(true), &a, &keys(&["a", "a"]))?);
    assert!(!may(leading(true), &a, &keys(&["b"]))? && !may(leading(true), &a, &keys(&["a", "b"]))?);
    assert!(may(leading(false), &a, &get("a/x"))? && !may(leading(true), &a, &get("a/x"))?);
    Ok(())
}
