//! `GET /er7/{messageId}` and `GET /er7`: reads, with the credentials of whoever asks.
//!
//! The worker's own role may write its log and nothing else. It exchanges the caller's ID token for the caller's AWS
//! credentials, and with those it reads catalog and lake: what a caller may see is decided by IAM, which compares the claim
//! `custom:read` with the catalog's partition and with the object's prefix and tag. A defect of this code cannot show a
//! message to another institute.

mod catalog;
mod cursor;
mod lake;
mod list;
mod message;
mod representation;

use aws_credential_types::Credentials;
use aws_lambda_events::apigw::{ApiGatewayV2httpRequest, ApiGatewayV2httpResponse};
use domain::Source;
use exchange::Exchange;
use runtime::{Field, HttpProblem, StepError, claim, note, problem_response};
use secrecy::SecretString;
use serde_json::Value;

pub use catalog::Catalog;
pub use lake::{Lake, MAX_BODY_BYTES};

/// The clients of the worker. None but the exchange can do anything without a caller's credentials.
#[derive(Debug)]
pub struct Fetch {
    /// Token in, the caller's credentials out.
    pub exchange: Exchange,
    /// What is known of messages.
    pub catalog: Catalog,
    /// The messages.
    pub lake: Lake,
}

/// A good end: a word for the log, and the answer.
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
            "GET /er7" => self.list(&request).await,
            _ => return Err(StepError::InvalidInput { what: "a route of this worker" }),
        };
        let (outcome, mut response) = answer.unwrap_or_else(|problem| (problem.title, problem_response(&problem)));
        if route.starts_with("HEAD") {
            response.body = None;
        }
        note(Field::Outcome, outcome);
        Ok(response)
    }

    async fn credentials(&self, reader: &Reader) -> Result<Credentials, HttpProblem> {
        self.exchange.credentials(&reader.token).await.map_err(|error| HttpProblem::of_step(&error))
    }
}

/// Who asks, by the claims that API Gateway's authorizer has verified.
struct Reader {
    /// `custom:read`: whose messages.
    source: Source,
    /// The ID token itself.
    token: SecretString,
}

impl Reader {
    /// 401 without a verified ID token, 403 without an institute to read from.
    fn of(request: &ApiGatewayV2httpRequest) -> Result<Self, HttpProblem> {
        let token = runtime::id_token(request)?;
        let source = claim(request, "custom:read").and_then(|it| it.parse().ok());
        let source = source.ok_or_else(|| HttpProblem::new(403, "Forbidden", "the caller has no institute in `custom:read`"))?;
        note(Field::Source, &source);
        Ok(Self { source, token })
    }
}
