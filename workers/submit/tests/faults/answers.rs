//! What a caller is told as an HL7 acknowledgment, and of bodies with several messages.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lambda_events::apigw::ApiGatewayV2httpResponse;
use aws_lambda_events::encodings::Body;
use aws_sdk_dynamodb::operation::update_item::UpdateItemOutput;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::operation::send_message_batch::SendMessageBatchOutput;
use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchResultEntry};
use aws_smithy_mocks::{MockResponse, Rule, mock};
use domain::{Charset, Er7, Payload};
use serde_json::{Value, json};
use submit::BatchTimes;

use super::support::{Aws, answered, body, noting, post_as, refusal, sending};

const HL7: &str = "application/hl7-v2";
const MSH: &str = "MSH|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||ADT^A01^ADT_A01|7|P|2.5.1";

fn adt(control_id: &str) -> String {
    format!("MSH|^~\\&|LAB|HOSP|LAKE|SLUICE|20260101||ADT^A01|{control_id}|P|2.5.1\rPID|1||7||DOE^JANE\r")
}

fn ack_bytes(response: &ApiGatewayV2httpResponse) -> Vec<u8> {
    let Some(Body::Binary(bytes)) = &response.body else { panic!("no bytes: {response:?}") };
    bytes.clone()
}

fn ack(response: &ApiGatewayV2httpResponse) -> String {
    String::from_utf8(ack_bytes(response)).unwrap()
}

/// The catalog of an institute that has stored these messages, one second after 2026-11-21T07:21:06Z.
fn having_stored(messages: &[&str]) -> Rule {
    let ids: Vec<_> = messages.iter().map(|it| Er7::canonical(it).unwrap().message_id().to_string()).collect();
    mock!(aws_sdk_dynamodb::Client::update_item).then_compute_response(move |request| {
        let id = request.key().unwrap()["message_id"].as_s().unwrap();
        let counts_only = request.condition_expression() == Some("attribute_exists(message_id)");
        if counts_only || !ids.contains(id) {
            return MockResponse::Output(UpdateItemOutput::builder().build());
        }
        let item = json!({
            "source": { "S": "general-hospital" },
            "message_id": { "S": id },
            "status": { "S": "stored" },
            "received_at": { "S": "2026-11-21T07:21:07.120Z" },
        });
        let refused = json!({ "__type": "ConditionalCheckFailedException", "message": "SECRET", "Item": item });
        MockResponse::Http(answered(400, &refused))
    })
}

#[tokio::test]
async fn an_er7_body_is_answered_with_an_ack_and_a_duplicate_with_the_same() {
    let message = format!("{MSH}\rPID|1||7||DOE^JANE\r");
    let first_received =
        UpdateItemOutput::builder().attributes("received_at", AttributeValue::S("2026-11-21T07:21:07.120Z".to_owned())).build();
    let note = mock!(aws_sdk_dynamodb::Client::update_item).then_output(move || first_received.clone());
    let queued = Aws { note, ..Aws::healthy() }.submit(post_as(HL7, message.as_bytes())).await;
    let id = Er7::canonical(&message).unwrap().message_id();
    let expected =
        format!("MSH|^~\\&|LAKE|SLUICE|LAB|HOSP|20261121072107+0000||ACK^A01^ACK|{}|P|2.5.1\rMSA|AA|7\r", id.prefix(20));
    assert_eq!((queued.status_code, ack(&queued)), (200, expected.clone()));
    assert_eq!(queued.headers["content-type"], "application/hl7-v2; charset=UTF-8");

    let aws = Aws { note: having_stored(&[&message]), ..Aws::healthy() };
    let duplicate = aws.submit(post_as(HL7, message.as_bytes())).await;
    assert_eq!((duplicate.status_code, ack(&duplicate), aws.send.num_calls()), (200, expected, 0));
}

#[tokio::test]
async fn json_and_acks_are_for_whoever_asks() {
    let message = format!("{MSH}\r");
    let asking = |content_type: &str, accept: &str| {
        let mut event = post_as(content_type, message.as_bytes());
        if content_type == "application/json" {
            event = super::post(&message);
        }
        event["headers"]["accept"] = json!(accept);
        event
    };
    let json = Aws::healthy().submit(asking(HL7, "application/json")).await;
    assert_eq!((json.status_code, &body(&json)["status"]), (202, &json!("queued")));
    let hl7 = Aws::healthy().submit(asking("application/json", HL7)).await;
    assert!(hl7.status_code == 200 && ack(&hl7).contains("\rMSA|AA|7\r"), "{hl7:?}");
}

#[tokio::test]
async fn a_fault_of_the_message_is_an_error_and_a_fault_of_ours_a_rejection() {
    let unavailable = || noting(|| refusal(500, "InternalServerError"));
    let mut nobody = post_as(HL7, format!("{MSH}\r").as_bytes());
    nobody["requestContext"]["authorizer"]["jwt"]["claims"]["custom:write"] = json!("");
    let large = Aws { max_message_bytes: 10, ..Aws::healthy() };
    let down = Aws { note: unavailable(), ..Aws::healthy() };
    let unqueued = Aws { send: sending(|| refusal(400, "RequestThrottled")), ..Aws::healthy() };
    let message = format!("{MSH}\r");
    let undecodable = [message.as_bytes(), b"PID|SECRET\xff"].concat();
    let table = [
        (
            Aws::healthy(),
            post_as(HL7, &undecodable),
            400,
            "AE|7|",
            "MSH^1^18|102^Data type error^HL70357|E||||the message is not valid UTF-8: byte 76 ",
        ),
        (Aws::healthy(), post_as(HL7, b""), 400, "AE|", "MSH^1|100^Segment sequence error^HL70357|E||||the message is empty"),
        (
            large,
            post_as(HL7, message.as_bytes()),
            413,
            "AE|",
            "|104^Value too long^HL70357|E||||a message may have at most 10 bytes",
        ),
        (Aws::healthy(), nobody, 403, "AR|7|", "|207^Application internal error^HL70357|E||||the caller has no institute"),
        (down, post_as(HL7, message.as_bytes()), 503, "AR|7|", "|207^Application internal error^HL70357|E||||not done"),
        (unqueued, post_as(HL7, message.as_bytes()), 429, "AR|7|", "|207^Application internal error^HL70357|E||||not done"),
    ];
    for (aws, event, status, msa, err) in table {
        let response = aws.submit(event).await;
        let text = ack(&response);
        assert_eq!(response.status_code, status, "{text}");
        assert!(text.contains(&format!("\rMSA|{msa}")) && text.contains(err) && text.contains("\rERR||"), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
        assert_eq!(response.headers.contains_key("retry-after"), status == 503 || status == 429, "{text}");
        assert!(aws.sent().is_empty());
    }
}

#[tokio::test]
async fn a_message_without_a_readable_msh_is_taken_with_a_warning() {
    let aws = Aws::healthy();
    let response = aws.submit(post_as(HL7, b"I'm just a random number: 4711")).await;
    let text = ack(&response);
    assert!(text.contains("\rMSA|AA|") && text.contains("|100^Segment sequence error^HL70357|W|"), "{text}");
    assert_eq!((response.status_code, aws.sent().len()), (200, 1));
}

#[tokio::test]
async fn an_ack_that_is_not_wanted_is_a_status_alone() {
    let none = format!("{MSH}|||NE|NE\r");
    let errors = format!("{MSH}|||ER|NE\r");
    let response = Aws::healthy().submit(post_as(HL7, none.as_bytes())).await;
    assert_eq!((response.status_code, response.body), (204, None));
    let response = Aws::healthy().submit(post_as(HL7, errors.as_bytes())).await;
    assert_eq!((response.status_code, response.body), (204, None));
    let several = none.replace("|7|", "|8|") + &none;
    let response = Aws::healthy().submit(post_as(HL7, several.as_bytes())).await;
    assert_eq!((response.status_code, response.body), (204, None));
    let response = Aws::healthy().submit(post_as(HL7, &[several.as_bytes(), b"PID|\xff\r"].concat())).await;
    assert!(response.status_code == 200 && ack(&response).matches("MSA|").count() == 1, "the one that was refused");
    let down = Aws { note: noting(|| refusal(500, "InternalServerError")), ..Aws::healthy() };
    let response = down.submit(post_as(HL7, none.as_bytes())).await;
    assert_eq!((response.status_code, response.body.is_none()), (503, true));
    let response = down.submit(post_as(HL7, errors.as_bytes())).await;
    assert!(ack(&response).contains("\rMSA|CR|7|"));
}

#[tokio::test]
async fn an_http_answer_holds_the_one_acknowledgment_that_says_most() {
    let down = || Aws { note: noting(|| refusal(500, "InternalServerError")), ..Aws::healthy() };
    let table = [
        ("AL|AL", "AA", "AR"),
        ("AL|NE", "CA", "CR"),
        ("AL|ER", "CA", "AR"),
        ("AL|SU", "AA", "CR"),
        ("NE|AL", "AA", "AR"),
        ("NE|ER", "", "AR"),
        ("NE|SU", "AA", ""),
        ("ER|AL", "AA", "AR"),
        ("ER|NE", "", "CR"),
        ("ER|ER", "", "AR"),
        ("ER|SU", "AA", "CR"),
        ("SU|AL", "AA", "AR"),
        ("SU|NE", "CA", ""),
        ("SU|ER", "CA", "AR"),
        ("SU|SU", "AA", ""),
        ("|2", "AA", "AR"),
    ];
    for (asked, accepted, rejected) in table {
        let message = format!("{MSH}|||{asked}\r");
        for (aws, code, status) in [(Aws::healthy(), accepted, 200), (down(), rejected, 503)] {
            let response = aws.submit(post_as(HL7, message.as_bytes())).await;
            if code.is_empty() {
                let status = if status == 200 { 204 } else { status };
                assert_eq!((response.status_code, response.body.is_none()), (status, true), "{asked}");
            } else {
                let text = ack(&response);
                assert!(response.status_code == status && text.contains(&format!("\rMSA|{code}|7")), "{asked}: {text}");
                assert_eq!(text.matches("MSH|").count(), 1, "{asked}");
            }
        }
    }
}

#[tokio::test]
async fn an_acknowledgment_and_a_query_are_queued_and_answered_as_such() {
    let aws = Aws::healthy();
    let acknowledgment = format!("{}|||AL|AL\rMSA|AA|1\r", MSH.replace("ADT^A01^ADT_A01", "ACK^A01^ACK"));
    let response = aws.submit(post_as(HL7, acknowledgment.as_bytes())).await;
    assert_eq!((response.status_code, response.body, aws.sent().len()), (204, None, 1));
    let aws = Aws::healthy();
    let query = format!("{}\rQRD|20260101|R|D|T7|||RD|||OTH|||T\r", MSH.replace("ADT^A01^ADT_A01", "QRY^Q02^QRY_Q02"));
    let response = aws.submit(post_as(HL7, query.as_bytes())).await;
    let text = ack(&response);
    assert!(text.contains("||QCK^Q02^QCK_Q02|") && text.contains("\rMSA|AR|7|") && text.ends_with("\rQAK|T7|AR\r"), "{text}");
    assert_eq!((response.status_code, aws.sent().len()), (200, 1));
}

/// Five messages: new, its copy, not decodable, stored before, and one without MSH.
fn mixed() -> Vec<u8> {
    let head = "FHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||F1\rBHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||B1\r";
    let damaged = adt("3").replace("DOE", "M\u{1}LLER").replace('\u{1}', "@@");
    let mut body = [head, &adt("1"), &adt("1"), &damaged, &adt("4"), "BTS|9\rjunk\rFTS|1\r"].concat().into_bytes();
    let place = body.windows(2).position(|it| it == b"@@").unwrap();
    body[place] = 0xff;
    body
}

#[tokio::test]
async fn each_message_of_a_batch_has_an_outcome_of_its_own() {
    let aws = Aws { note: having_stored(&[&adt("4")]), ..Aws::healthy() };
    let mut event = post_as(HL7, &mixed());
    event["headers"]["accept"] = json!("application/json");
    let response = aws.submit(event).await;
    let answer = body(&response);
    assert_eq!(response.status_code, 202, "{answer}");
    let found: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|it| (&it["controlId"], &it["status"])).collect();
    let expected = [("1", "queued"), ("1", "duplicate"), ("3", "refused"), ("4", "duplicate"), ("", "queued")];
    assert_eq!(found, expected.map(|(id, status)| (json!(id), json!(status))).iter().map(|(a, b)| (a, b)).collect::<Vec<_>>());
    assert_eq!((&answer["queued"], &answer["duplicates"], &answer["refused"]), (&json!(2), &json!(2), &json!(1)));
    assert_eq!(answer["messages"][0]["messageId"], json!(Er7::canonical(&adt("1")).unwrap().message_id()));
    let problem = &answer["messages"][2]["problem"];
    assert_eq!((&problem["status"], &problem["title"]), (&json!(400), &json!("Undecodable message")));
    // Junk in a file is a batch of its own.
    let problems =
        json!([{ "code": "bts-count", "declared": 9, "found": 4 }, { "code": "fts-count", "declared": 1, "found": 2 }]);
    assert_eq!(answer["batchProblems"], problems);
    assert!(!answer.to_string().contains("DOE") && !answer.to_string().contains("LLER"), "{answer}");

    let sent = aws.sent();
    assert_eq!(sent.len(), 2, "the new one, once, and the one without MSH");
    assert!(sent.iter().all(|it| json!(it.submission_id) == answer["submissionId"] && it.token == sent[0].token));
    assert_eq!([&aws.seal, &aws.send, &aws.send_batch].map(Rule::num_calls), [1, 0, 1]);
}

#[tokio::test]
async fn a_batch_is_acknowledged_as_a_batch() {
    let aws = Aws { note: having_stored(&[&adt("4")]), ..Aws::healthy() };
    let response = aws.submit(post_as(HL7, &mixed())).await;
    let text = ack(&response);
    assert_eq!(response.status_code, 200, "{text}");
    let segments: Vec<_> = text.split('\r').map(|it| it.split('|').take(3).collect::<Vec<_>>()).collect();
    let found: Vec<_> = segments.iter().filter(|it| it[0] != "MSH" && !it[0].is_empty()).map(|it| it.join("|")).collect();
    let expected = [
        "FHS|^~\\&|LAKE",
        "BHS|^~\\&|LAKE",
        "MSA|AA|1",
        "MSA|AA|1",
        "MSA|AE|3",
        "ERR||MSH^1^18",
        "MSA|AA|4",
        "BTS|4",
        "MSA|AA|",
        "ERR||MSH^1",
        "FTS|1|bts-count: 9 declared, 4 found; fts-count: 1 declared, 2 found",
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_batch_is_acknowledged_in_the_character_set_of_its_messages_or_that_of_accept() {
    let message = |id: &str| adt(id).replace("LAB|", "M\u{fc}ller|").replace("|2.5.1\r", "|2.5.1||||||8859/1\r");
    let text = format!("BHS|^~\\&|LAB\r{}{}BTS|2\r", message("1"), message("2"));
    let latin_1 = Charset::for_hl7("8859/1").unwrap();
    for (accept, charset, msh_18) in
        [(HL7, latin_1, "8859/1"), ("application/hl7-v2; charset=utf-8", Charset::UTF_8, "UNICODE UTF-8")]
    {
        let mut event = post_as(HL7, &latin_1.encode(&text).unwrap());
        event["headers"]["accept"] = json!(accept);
        let response = Aws::healthy().submit(event).await;
        assert_eq!(response.headers["content-type"], format!("{HL7}; charset={}", charset.name()).as_str());
        let answered = charset.decode(&ack_bytes(&response)).unwrap().into_owned();
        assert_eq!(answered.matches("|M\u{fc}ller|HOSP|").count(), 2, "{answered}");
        assert_eq!(answered.matches(&format!("|2.5.1||||||{msh_18}\rMSA|AA|")).count(), 2, "{answered}");
    }
}

#[tokio::test]
async fn an_empty_batch_is_answered_with_a_batch_and_nothing_is_queued() {
    let empty = "FHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||F1\rBHS|^~\\&|LAB|HOSP|LAKE|SLUICE|1||||B1\rBTS|0\rFTS|1\r";
    let aws = Aws::healthy();
    let response = aws.submit(post_as(HL7, empty.as_bytes())).await;
    let text = ack(&response);
    assert_eq!(response.status_code, 200, "{text}");
    let found: Vec<_> = text.split_terminator('\r').map(|it| it.split('|').take(3).collect::<Vec<_>>().join("|")).collect();
    assert_eq!(found, ["FHS|^~\\&|LAKE", "BHS|^~\\&|LAKE", "BTS|0", "FTS|1"]);

    let response = aws.submit(asking_json(empty.as_bytes())).await;
    let answer = body(&response);
    assert_eq!((response.status_code, &answer["messages"], &answer["batchProblems"]), (202, &json!([]), &json!([])));
    assert_eq!([&aws.note, &aws.seal, &aws.send, &aws.send_batch].map(Rule::num_calls), [0; 4]);

    let cut = body(&aws.submit(asking_json(b"BHS|^~\\&|LAB\r")).await);
    assert_eq!(cut["batchProblems"], json!([{ "code": "no-bts", "found": 0 }]));
}

#[tokio::test]
async fn a_report_with_lines_that_look_like_trailers_is_one_message() {
    let report = "MSH|^~\\&|A|B|C|D|20260101||ORU^R01^ORU_R01|77|P|2.5.1\rPID|1||7\rOBR|1||9|c\r\
                  OBX|1|TX|c||Norwood I,\nBTS-Shunt offen,\nkeine Stenose.||||||F\r";
    let aws = Aws::healthy();
    let response = aws.submit(post_as(HL7, report.as_bytes())).await;
    assert_eq!((response.status_code, ack(&response).matches("MSA|AA|77\r").count()), (200, 1));
    assert_eq!(ack(&response).matches("MSH|").count(), 1);
    let sent = aws.sent();
    assert_eq!((sent.len(), &sent[0].message_id), (1, &Er7::canonical(report).unwrap().message_id()));
    let answer = body(&aws.submit(asking_json(report.replace('\n', "\r\n").as_bytes())).await);
    assert_eq!(answer["messageId"], json!(sent[0].message_id));
}

#[tokio::test]
async fn many_messages_go_to_the_queue_in_few_requests() {
    let small: String = (0..25).map(|n| adt(&n.to_string())).collect();
    let aws = Aws::healthy();
    let answer = body(&aws.submit(asking_json(small.as_bytes())).await);
    assert_eq!((&answer["queued"], aws.sent().len(), aws.send_batch.num_calls()), (&json!(25), 25, 3));

    let filler = "x".repeat(Payload::MAX_INLINE_BYTES - 200);
    let large: String = (0..20).map(|n| format!("{}NTE|1||{filler}\r", adt(&n.to_string()))).collect();
    let aws = Aws::healthy();
    let answer = body(&aws.submit(asking_json(large.as_bytes())).await);
    assert_eq!((&answer["queued"], aws.sent().len(), aws.send_batch.num_calls()), (&json!(20), 20, 3), "of 1 MiB each at most");
}

fn asking_json(body: &[u8]) -> Value {
    let mut event = post_as(HL7, body);
    event["headers"]["accept"] = json!("application/json");
    event
}

#[tokio::test]
async fn a_message_that_the_queue_does_not_take_harms_no_other() {
    let entries: Arc<Mutex<HashMap<String, String>>> = Arc::default();
    let seen = Arc::clone(&entries);
    // The second is refused, the third is not named at all.
    let send_batch = mock!(aws_sdk_sqs::Client::send_message_batch).then_compute_output(move |request| {
        let mut output = SendMessageBatchOutput::builder().set_successful(Some(Vec::new())).set_failed(Some(Vec::new()));
        for (n, entry) in request.entries().iter().enumerate() {
            seen.lock().unwrap().insert(entry.id().to_owned(), entry.message_body().to_owned());
            let sent = SendMessageBatchResultEntry::builder().id(entry.id()).message_id("m").md5_of_message_body("x");
            let failed = BatchResultErrorEntry::builder().id(entry.id()).code("InternalError").sender_fault(false);
            output = match n {
                1 => output.failed(failed.build().unwrap()),
                2 => output,
                _ => output.successful(sent.build().unwrap()),
            };
        }
        output.build().unwrap()
    });
    let aws = Aws { send_batch, ..Aws::healthy() };
    let all: String = (0..4).map(|n| adt(&n.to_string())).collect();
    let response = aws.submit(asking_json(all.as_bytes())).await;
    let answer = body(&response);
    let found: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!((response.status_code, found), (202, vec![json!("queued"), json!("refused"), json!("refused"), json!("queued")]));
    assert_eq!(answer["messages"][1]["problem"]["status"], 503);
    assert_eq!(entries.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_byte_order_mark_is_meant_for_all_messages_of_a_body() {
    let message = |id: &str| format!("{}|||||| 8859/1\rPID|1||7||M\u{dc}LLER\r", MSH.replace("|7|", &format!("|{id}|")));
    let body_of = |mark: &str| format!("{mark}{}{}", message("1"), message("2"));
    let aws = Aws::healthy();
    let answer = body(&aws.submit(asking_json(body_of("\u{feff}").as_bytes())).await);
    for (n, id) in ["1", "2"].iter().enumerate() {
        assert_eq!(answer["messages"][n]["messageId"], json!(Er7::canonical(&message(id)).unwrap().message_id()));
    }
}

#[tokio::test]
async fn headers_count_as_messages_and_problems_of_a_batch_are_bounded() {
    let aws = Aws::healthy();
    let headers = aws.submit(asking_json("BHS|\r".repeat(domain::MAX_MESSAGE_BYTES / 5).as_bytes())).await;
    assert_eq!(headers.status_code, 413, "{headers:?}");
    let cut = aws.submit(asking_json("BHS|\r".repeat(5000).as_bytes())).await;
    assert_eq!((cut.status_code, body(&cut)["batchProblems"].as_array().unwrap().len()), (202, 100));
    let acknowledged = aws.submit(post_as(HL7, "BHS|\r".repeat(5000).as_bytes())).await;
    assert!(ack(&acknowledged).ends_with("; 4990 more\r"));
    assert_eq!([&aws.note, &aws.seal, &aws.send_batch].map(Rule::num_calls), [0; 3]);
}

#[tokio::test]
async fn a_batch_whose_answer_would_be_too_large_is_refused_before_anything_is_queued() {
    let long = |size: usize| format!("MSH|^~\\&|{0}|{0}|{0}|{0}|1||ADT^A01|{0}|{0}|2.5\r", "\"".repeat(size));
    for (messages, content_type) in [(long(240).repeat(4900), "application/json"), (long(95).repeat(4900), HL7)] {
        let aws = Aws::healthy();
        let mut event = post_as(HL7, messages.as_bytes());
        event["headers"]["accept"] = json!(content_type);
        assert!(messages.len() <= 2 * domain::MAX_MESSAGE_BYTES);
        let response = Aws { max_message_bytes: 8 << 20, ..aws }.submit(event).await;
        assert_eq!(response.status_code, 413, "{content_type}");
    }
    // The usual ones may be as many as a body holds.
    let aws = Aws::healthy();
    let usual = (0..5000).map(|n| format!("{MSH}\rNTE|{n}\r")).collect::<String>();
    for accept in [HL7, "application/json"] {
        let mut event = post_as(HL7, usual.as_bytes());
        event["headers"]["accept"] = json!(accept);
        assert!(aws.submit(event).await.status_code < 300, "{accept}");
    }
}

#[tokio::test]
async fn a_compressed_body_is_decoded_within_the_limit_and_another_coding_is_415() {
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let coded = |coding: &str, bytes: &[u8]| {
        let mut event = asking_json(bytes);
        event["headers"]["content-encoding"] = json!(coding);
        event
    };
    let aws = Aws::healthy();
    let answer = body(&aws.submit(coded("gzip", &gzip(adt("1").as_bytes()))).await);
    assert_eq!(answer["messageId"], json!(Er7::canonical(&adt("1")).unwrap().message_id()));
    let bomb = aws.submit(coded("gzip", &gzip(&vec![b'x'; 64 << 20]))).await;
    assert_eq!(bomb.status_code, 413);
    assert_eq!(aws.submit(coded("gzip", adt("1").as_bytes())).await.status_code, 400);
    let other = aws.submit(coded("br", adt("1").as_bytes())).await;
    assert_eq!((other.status_code, other.headers["accept-encoding"].to_str().unwrap()), (415, "gzip, zstd"));
    assert_eq!(aws.sent().len(), 1);
}

#[tokio::test]
async fn a_body_of_too_many_messages_is_refused_whole() {
    let aws = Aws::healthy();
    for (messages, status) in [(5001, 413), (domain::MAX_MESSAGE_BYTES / 5, 413)] {
        let response = aws.submit(asking_json("MSH|\r".repeat(messages).as_bytes())).await;
        assert_eq!(
            (response.status_code, &body(&response)["detail"]),
            (status, &json!("a body may hold at most 5000 messages: send it in parts"))
        );
    }
    assert_eq!([&aws.note, &aws.seal, &aws.send_batch].map(Rule::num_calls), [0; 3]);
}

#[tokio::test]
async fn what_there_is_no_time_for_is_sent_again_and_the_rest_is_queued() {
    // The SDK would try these again in an hour.
    let stuck: Vec<_> = ["2", "4"].map(|id| Er7::canonical(&adt(id)).unwrap().message_id().to_string()).into();
    let note = mock!(aws_sdk_dynamodb::Client::update_item).then_compute_response(move |request| {
        match stuck.contains(request.key().unwrap()["message_id"].as_s().unwrap()) {
            true => MockResponse::Http(refusal(400, "ThrottlingException")),
            false => MockResponse::Output(UpdateItemOutput::builder().build()),
        }
    });
    let hour = Duration::from_secs(3600);
    let retry = RetryConfig::standard().with_initial_backoff(hour).with_max_backoff(hour);
    let times = BatchTimes { record: Duration::from_secs(10), ..BatchTimes::default() };
    let aws = Aws { note, retry, batch_times: times, ..Aws::healthy() };
    let all: String = ["1", "2", "3", "4"].map(adt).concat();
    let response = aws.submit(asking_json(all.as_bytes())).await;
    let answer = body(&response);
    let found: Vec<_> = answer["messages"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!((response.status_code, found), (202, ["queued", "refused", "queued", "refused"].map(|it| json!(it)).into()));
    assert_eq!(answer["messages"][1]["problem"]["status"], json!(503));
    assert_eq!(response.headers["retry-after"], "5");
    assert_eq!(aws.sent().len(), 2);

    let none = BatchTimes { queue: Duration::ZERO, ..BatchTimes::default() };
    let aws = Aws { batch_times: none, ..Aws::healthy() };
    assert_eq!((aws.submit(asking_json(all.as_bytes())).await.status_code, aws.sent().len()), (503, 0));
}

#[tokio::test]
async fn a_batch_of_which_nothing_is_queued_has_the_status_of_its_messages() {
    let all = [adt("1"), adt("2")].concat();
    let down = Aws { note: noting(|| refusal(500, "InternalServerError")), ..Aws::healthy() };
    let response = down.submit(asking_json(all.as_bytes())).await;
    assert_eq!((response.status_code, &body(&response)["refused"]), (503, &json!(2)));
    // One that nothing can better comes first, and must not make the sender give up on the other.
    let mixed = [b"MSH|^~\\&|\rPID|\xff\r", adt("1").as_bytes()].concat();
    for accept in ["application/json", HL7] {
        let mut event = post_as(HL7, &mixed);
        event["headers"]["accept"] = json!(accept);
        let response = down.submit(event).await;
        assert_eq!((response.status_code, response.headers["retry-after"].to_str().unwrap()), (503, "5"), "{accept}");
    }
    let response = Aws::healthy().submit(asking_json(&mixed[..mixed.len() - adt("1").len()].repeat(2))).await;
    assert_eq!((response.status_code, response.headers.get("retry-after")), (400, None));
    let stored = Aws { note: having_stored(&[&adt("1"), &adt("2")]), ..Aws::healthy() };
    let response = stored.submit(asking_json(all.as_bytes())).await;
    assert_eq!((response.status_code, &body(&response)["duplicates"]), (409, &json!(2)));
    assert_eq!(ack(&stored.submit(post_as(HL7, all.as_bytes())).await).matches("MSA|AA|").count(), 2);
}
