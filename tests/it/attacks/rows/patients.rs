//! The index by patient.

use super::*;

/// The key of an entry.
fn entry(source: &str) -> Value {
    json!({ "source": { "S": source }, "patient_at": { "S": "0123456789abcdef\t2026-11-29T00:00:00.000Z\t0" } })
}

pub(in super::super) const PATIENTS: &[Row] = &[
    row(
        "patients-others",
        "guess a hash in another's index by patient",
        NO,
        Admin,
        |p| vec![query_patients(p, &p.other)],
        Own(Admin, |p| vec![query_patients(p, &p.own)]),
    ),
    row(
        "patients-by-writer",
        "the same in one's own by a user who may only write",
        NO,
        Writer,
        |p| vec![query_patients(p, &p.own)],
        Own(Reader, |p| vec![query_patients(p, &p.own)]),
    ),
    row(
        "patients-by-nobody",
        "the same by a user without claims",
        NO,
        Nobody,
        |p| vec![query_patients(p, &p.own)],
        Own(Reader, |p| vec![query_patients(p, &p.own)]),
    ),
    row(
        "patients-otherwise",
        "get, scan, put or delete an entry of it, even one's own",
        NO,
        Admin,
        |p| {
            vec![
                patients(p, "GetItem", &p.own, json!({ "Key": entry(&p.own) })),
                patients(p, "Scan", &p.own, json!({})),
                patients(p, "PutItem", &p.own, json!({ "Item": entry(&p.own) })),
                patients(p, "DeleteItem", &p.own, json!({ "Key": entry(&p.own) })),
            ]
        },
        RootMay,
    ),
    row(
        "patients-key",
        "make a hash with the key of KMS, or verify one",
        NO,
        Admin,
        |p| {
            let call = |name: &str, more: Value| {
                let mut body = json!({ "KeyId": p.patient_key, "MacAlgorithm": "HMAC_SHA_256", "Message": "eA==" });
                if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
                    body.extend(more);
                }
                json_call("kms", &format!("TrentService.{name}"), &format!("kms:{name}"), &p.patient_key, body)
            };
            vec![call("GenerateMac", json!({})), call("VerifyMac", json!({ "Mac": "eA==" }))]
        },
        RootMay,
    ),
];
