//! Who may do what in Sluice, as a table, and tokens as the verifier gives them.

#![allow(dead_code, reason = "every test binary uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_policies::token::Verified;
use sluice_policies::{Decider, Decision, Engine, Issuers, Policies};

/// Sluice's own policy folder.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workers/authorize/policies")
}

pub(crate) fn policies() -> Policies {
    Policies::load(&folder()).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A deployment whose partner is bound to the institute `a`, or to none.
pub(crate) fn issuers(partners_institute: Option<&str>) -> Issuers {
    let mut constants = json!({});
    if let Some(institute) = partners_institute {
        constants = json!({ "institute": institute });
    }
    let issuer = |name: &str| json!({ "issuer": format!("https://{name}.example"), "audiences": ["client"] });
    let mut partners = issuer("partners");
    partners["constants"] = constants;
    let all = json!({ "institutes": issuer("institutes"), "lake-staff": issuer("lake-staff"), "partners": partners });
    all.to_string().parse().unwrap()
}

/// A token of `provider` with these claims beside the usual ones.
pub(crate) fn token(provider: &str, claims: Value) -> Verified {
    let mut all = json!({
        "sub": "6f1b0a4e-8f0e-4f4e-9c37-1d8a54c1f4aa",
        "iss": format!("https://{provider}.example"),
        "aud": "client",
        "email": "jane.doe@example.org",
    });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    Verified {
        provider: provider.to_owned(),
        issuer: format!("https://{provider}.example"),
        subject: all["sub"].as_str().unwrap().to_owned(),
        token_use: (provider != "partners").then(|| "id".to_owned()),
        expires_at: u64::MAX,
        claims: all.as_object().unwrap().clone(),
    }
}

/// The callers, in the order of the table's columns. Staff and partners try what only an institute's user may say.
fn callers() -> Vec<(&'static str, Verified, Option<&'static str>)> {
    let user = |claims| token("institutes", claims);
    let staff = json!({ "custom:read": "a", "custom:write": "a", "read": "a", "institute": "a" });
    let partner = json!({ "custom:read": "a", "custom:write": "b", "write": "b", "institute": "b" });
    vec![
        ("none", user(json!({})), None),
        ("empty", user(json!({ "custom:read": "", "custom:write": "" })), None),
        ("r=a", user(json!({ "custom:read": "a" })), None),
        ("w=a", user(json!({ "custom:write": "a" })), None),
        ("rw=a", user(json!({ "custom:read": "a", "custom:write": "a" })), None),
        ("r=a,w=b", user(json!({ "custom:read": "a", "custom:write": "b" })), None),
        ("r=b,w=a", user(json!({ "custom:read": "b", "custom:write": "a" })), None),
        ("staff", token("lake-staff", staff), None),
        ("partner", token("partners", partner.clone()), Some("a")),
        ("unbound", token("partners", partner), None),
    ]
}

/// Who may do what. A letter is the policy that allows it, `-` is a refusal. `a` and `b` are institutes in the path.
const TABLE: &str = "
    route                                              none empty r=a w=a rw=a r=a,w=b r=b,w=a staff partner unbound
    POST  /er7                                       .  -    -     -   S   S    S       S       -     P       -
    POST  /er7/uploads                               .  -    -     -   S   S    S       S       -     P       -
    POST  /er7/uploads/{uploadId}                    .  -    -     -   S   S    S       S       -     P       -
    POST  /er7/release                               .  -    -     -   S   S    S       S       -     P       -
    POST  /er7/{messageId}/release                   .  -    -     -   S   S    S       S       -     P       -
    GET   /er7                                       .  -    -     R   -   R    R       R       -     -       -
    POST  /er7/search                                .  -    -     R   -   R    R       R       -     -       -
    GET   /er7/{messageId}                           .  -    -     R   -   R    R       R       -     -       -
    HEAD  /er7/{messageId}                           .  -    -     R   -   R    R       R       -     -       -
    GET   /er7/{messageId}/status                    .  -    -     T   T   T    T       T       -     P       -
    POST  /er7/status                                .  -    -     T   T   T    T       T       -     P       -
    GET   /institutes/{source}/er7                   a  -    -     R   -   R    R       -       O     P       -
    GET   /institutes/{source}/er7                   b  -    -     -   -   -    -       R       O     -       -
    GET   /institutes/{source}/er7                   A  -    -     -   -   -    -       -       O     -       -
    GET   /institutes/{source}/er7/{messageId}/status a -    -     T   T   T    T       T       O     P       -
    GET   /institutes/{source}/er7/{messageId}/status b -    -     -   -   -    T       T       O     -       -
    GET   /institutes/{source}/er7/{messageId}/status A -    -     -   -   -    -       -       O     -       -
";

const POLICIES: [(&str, &str); 5] = [
    ("S", "institutes-submit"),
    ("R", "institutes-read"),
    ("T", "institutes-status"),
    ("O", "lake-staff-oversee"),
    ("P", "partners-submit"),
];

/// A field of the table.
pub(crate) struct Row {
    pub(crate) caller: &'static str,
    pub(crate) verified: Verified,
    pub(crate) partners_institute: Option<&'static str>,
    pub(crate) route: String,
    pub(crate) path: BTreeMap<String, String>,
    /// The policy that allows it.
    pub(crate) expected: Option<&'static str>,
}

impl Row {
    pub(crate) fn name(&self) -> String {
        format!("{} as {} {:?}", self.route, self.caller, self.path)
    }

    /// Asks, and compares.
    pub(crate) async fn check(&self, decider: &Decider) -> Decision {
        let decision = decider.decide(&self.verified, &self.route, &self.path).await.unwrap();
        let expected: Vec<String> = self.expected.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!((decision.allowed, &decision.policies), (self.expected.is_some(), &expected), "{}", self.name());
        decision
    }
}

/// Every field of the table.
pub(crate) fn table() -> Vec<Row> {
    let mut lines = TABLE.lines().filter(|line| !line.trim().is_empty());
    let columns: Vec<&str> = lines.next().unwrap().split_whitespace().skip(1).collect();
    let callers = callers();
    assert!(callers.iter().map(|(name, ..)| *name).eq(columns), "the columns are the callers");
    let mut rows = Vec::new();
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [method, path, institute, answers @ ..] = fields.as_slice() else { panic!("{line}") };
        assert_eq!(answers.len(), callers.len(), "{line}");
        for ((caller, verified, partners_institute), answer) in callers.iter().zip(answers) {
            let expected = POLICIES.iter().find(|(letter, _)| letter == answer).map(|(_, id)| *id);
            assert!(expected.is_some() || *answer == "-", "{line}");
            let mut parameters = BTreeMap::from([("messageId".to_owned(), "0".repeat(64))]);
            if *institute != "." {
                parameters.insert("source".to_owned(), (*institute).to_owned());
            }
            rows.push(Row {
                caller,
                verified: verified.clone(),
                partners_institute: *partners_institute,
                route: format!("{method} {path}"),
                path: parameters,
                expected,
            });
        }
    }
    rows
}

/// A decider for a row's deployment.
pub(crate) fn decider(partners_institute: Option<&str>, engine: Engine) -> Decider {
    Decider::new(&issuers(partners_institute), policies(), engine)
}
