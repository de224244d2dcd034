//! `POST /er7`: takes a message in, notes it in the catalog and puts it into the queue, with the caller's token sealed.
//!
//! Nothing is decided here about what the caller may write: the authorizer says which institute the message is queued for,
//! and the caller's own AWS credentials are what stores it, or does not.

mod body;

use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use catalog::{Catalog, Noted};
use domain::step::Subject;
use domain::{Envelope, Received, SubmissionId, Timestamp};
use futures_util::future::try_join;
use runtime::{Field, HttpProblem, Identity, StepError, json_response, note, problem_response};
use serde_json::{Value, json};

/// The clients and settings of the worker.
#[derive(Debug)]
pub struct Submit {
    /// Notes the submission.
    pub catalog: Catalog,
    /// Seals the token.
    pub kms: aws_sdk_kms::Client,
    /// With this key.
    pub token_key_arn: String,
    /// Puts large messages aside.
    pub s3: aws_sdk_s3::Client,
    /// Into this bucket.
    pub overflow_bucket: String,
    /// Sends the envelope.
    pub sqs: aws_sdk_sqs::Client,
    /// To this queue.
    pub queue_url: String,
    /// Where callers reach the API, if not at the host they name (a custom domain's path, a proxy); empty otherwise.
    pub public_url: String,
    /// Largest message, in bytes as sent (after base64).
    pub max_message_bytes: usize,
}

/// A submission that the queue has taken.
struct Queued {
    subject: Subject,
}

impl Submit {
    /// Answers one request: 202, or a problem document. Nothing is queued unless the answer is 202.
    ///
    /// # Errors
    /// Only for an event that is not API Gateway's.
    pub async fn answer(&self, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
        let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
        let base_url = self.base_url(&request);
        let (outcome, response) = match self.submit(request).await {
            Ok(Queued { subject }) => {
                let message_id = &subject.message_id;
                let body = json!({
                    "messageId": message_id,
                    "submissionId": subject.submission_id,
                    "status": "queued",
                    "statusUrl": format!("{base_url}/er7/{message_id}/status"),
                });
                ("queued", json_response(202, &body))
            }
            Err(problem) => (problem.title, problem_response(&problem)),
        };
        note(Field::Outcome, outcome);
        Ok(response)
    }

    async fn submit(&self, mut request: ApiGatewayV2httpRequest) -> Result<Queued, HttpProblem> {
        let received_at = Timestamp::now();
        let caller = Identity::of(&request)?;
        let source = caller.writes_for()?.clone();
        let (received, message) = body::message(&mut request, self.max_message_bytes)?;
        note(Field::SizeBytes, message.size_bytes());
        let subject = Subject { submission_id: SubmissionId::generate(), message_id: message.message_id(), source };
        Field::note_subject(&subject);

        let noting = self.catalog.note_submission(&subject, received_at);
        let sealing = seal::seal(&self.kms, &self.token_key_arn, &subject, &caller.token);
        let (noted, token) = try_join(noting, sealing).await.map_err(|error| HttpProblem::of_step(&error))?;
        if noted == Noted::AlreadyStored {
            return Err(already_stored(&subject));
        }
        self.enqueue(&subject, received_at, caller, token, &received).await.map_err(|error| HttpProblem::of_step(&error))?;
        Ok(Queued { subject })
    }

    async fn enqueue(
        &self,
        subject: &Subject,
        received_at: Timestamp,
        caller: Identity,
        token: String,
        received: &Received,
    ) -> Result<(), StepError> {
        let payload = overflow::payload(&self.s3, &self.overflow_bucket, subject, received).await?;
        let envelope = Envelope {
            v: Envelope::VERSION,
            submission_id: subject.submission_id,
            message_id: subject.message_id.clone(),
            source: subject.source.clone(),
            received_at,
            subject: caller.subject,
            issuer: caller.issuer,
            token,
            payload,
        };
        let body = serde_json::to_string(&envelope).map_err(|_| StepError::InvalidInput { what: "the envelope" })?;
        self.sqs
            .send_message()
            .queue_url(&self.queue_url)
            .message_body(body)
            .send()
            .await
            .map(drop)
            .map_err(|error| StepError::from_sdk("sqs:SendMessage", &error))
    }

    fn base_url(&self, request: &ApiGatewayV2httpRequest) -> String {
        if self.public_url.is_empty() {
            format!("https://{}", request.request_context.domain_name.as_deref().unwrap_or_default())
        } else {
            self.public_url.trim_end_matches('/').to_owned()
        }
    }
}

fn already_stored(subject: &Subject) -> HttpProblem {
    let mut problem = HttpProblem::new(409, "Duplicate", "the institute has stored this message already");
    problem.members.push(("messageId", json!(subject.message_id)));
    problem
}
