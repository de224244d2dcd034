//! Reads with the credentials of whoever asks: `GET /er7/{messageId}`, `GET /er7` and `POST /er7/search` of the caller's own institute,
//! `GET /institutes/{source}/er7` and `GET /institutes/{source}/er7/{messageId}/status` of a named one.
//!
//! The worker's own role may write its log and make the key of an institute's hashes, and nothing else. It exchanges the caller's ID
//! token for the caller's AWS credentials, and with those it reads catalog and lake. IAM decides what a caller may see: for the users of
//! an institute it compares their tag `read` with the catalog's partition and with the object's prefix and tag. A defect of this code
//! cannot show a message to another institute.

mod catalog;
mod cursor;
mod lake;
mod list;
mod message;
mod representation;
mod search;
mod status;

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use domain::Source;
use exchange::Exchange;
use runtime::{Caller, Field, HttpProblem, StepError, log_field, problem_response};
use secrecy::SecretString;
use serde_json::Value;

pub use catalog::CatalogReader;
pub use lake::{LakeReader, MAX_BODY_BYTES};
pub use search::Patients;

/// The clients of the worker. All but the exchange need a caller's credentials for each call.
#[derive(Debug)]
pub struct Fetch {
    /// Token in, the caller's credentials out.
    pub exchange: Exchange,
    /// The records of the messages.
    pub catalog: CatalogReader,
    /// The messages.
    pub lake: LakeReader,
    /// The index by patient; `None` where the deployment has none.
    pub patients: Option<Patients>,
}

/// An answer, and its outcome for the log.
type Answer = (&'static str, ApiGatewayV2httpResponse);

impl Fetch {
    /// Answers one request: a message, a page of the catalog, or a problem document.
    ///
    /// # Errors
    /// Only for an event that is not API Gateway's, or of a route that is not this worker's.
    pub async fn answer(&self, event: Value) -> Result<ApiGatewayV2httpResponse, StepError> {
        let request: ApiGatewayV2httpRequest = runtime::input("an HTTP API event", event)?;
        let route = request.route_key.as_deref().unwrap_or_default();
        let answer = match route {
            "GET /er7/{messageId}" => self.message(&request, true).await,
            "HEAD /er7/{messageId}" => self.message(&request, false).await,
            "GET /er7" | "GET /institutes/{source}/er7" => self.list(&request).await,
            "POST /er7/search" => self.search(&request).await,
            "GET /institutes/{source}/er7/{messageId}/status" => self.status(&request).await,
            _ => return Err(StepError::InvalidInput { what: "a route of this worker" }),
        };
        let (outcome, mut response) = answer.unwrap_or_else(|problem| (problem.title, problem_response(&problem)));
        if route.starts_with("HEAD") {
            response.body = None;
        }
        log_field(Field::Outcome, outcome);
        Ok(response)
    }

    async fn credentials(&self, reader: &Reader) -> Result<Credentials, HttpProblem> {
        self.exchange.credentials(&reader.token).await.map_err(|error| HttpProblem::of_step(&error))
    }
}

/// The caller's token, and the institute whose messages the caller asks for.
struct Reader {
    /// The institute that the path names, or the one that the caller reads from.
    source: Source,
    /// The ID token.
    token: SecretString,
}

impl Reader {
    /// 401 without a verified ID token, 403 without an institute to read from, 400 if the institute in the path is invalid.
    fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let caller = Caller::of(request)?;
        let source = match request.path_parameters.get("source") {
            None => caller.reads_from()?.clone(),
            Some(name) => {
                let source =
                    name.parse::<Source>().map_err(|error| HttpProblem::new(400, "Invalid institute", error.to_string()))?;
                log_field(Field::Source, &source);
                source
            }
        };
        Ok(Self { source, token: caller.token })
    }
}
