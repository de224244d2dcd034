//! Gives a new user their institute, when they have confirmed their sign-up (Cognito post-confirmation trigger).
//!
//! Cognito calls the trigger once for a user who signed up and proved the address, and once for a user whom a federated provider
//! sent for the first time. It does not call the trigger for users that an operator made. It calls again if it gets no answer
//! within five seconds. So everything here can run twice, even at the same time, and takes effect once.
//!
//! Cognito has no conditional write: if an operator sets an institute between the worker's read of the user's attributes and their
//! change, the worker overwrites it with the institute of the table. This can happen only right after the sign-up, and it gives nobody
//! more than the operators have put into the table.

use aws_sdk_cognitoidentityprovider::Client as Users;
use aws_sdk_cognitoidentityprovider::types::AttributeType;
use aws_sdk_dynamodb::Client as Entries;
use aws_sdk_dynamodb::types::AttributeValue::{self, S};
use aws_sdk_dynamodb::types::ReturnValue;
use domain::Source;
use domain::enrollment::{DomainRule, EmailDomain, Founded, Kind, Pending};
use runtime::{Field, StepError, log_field};
use serde::Deserialize;
use serde_json::Value;
use strum::EnumString;
use uuid::Uuid;

/// The trigger source of a confirmed sign-up. Cognito also calls the trigger after a user has replaced a forgotten password. Then
/// it must do nothing: it would return rights to accounts that lost them.
const CONFIRMED_SIGN_UP: &str = "PostConfirmation_ConfirmSignUp";

const READ: &str = "custom:read";
const WRITE: &str = "custom:write";

/// How a new user gets their institute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Mode {
    /// By the rule in the enrollment table for the domain of the user's address.
    Domains,
    /// The user founds an institute.
    Found,
}

/// The user pool and the enrollment table.
#[derive(Clone, Debug)]
pub struct Enrollment {
    users: Users,
    entries: Entries,
    table: String,
    mode: Mode,
}

/// The members of the event that the worker reads (Cognito Developer Guide, *Post confirmation Lambda trigger*).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    trigger_source: String,
    user_pool_id: String,
    user_name: String,
    request: Request,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    user_attributes: UserAttributes,
}

#[derive(Deserialize)]
struct UserAttributes {
    sub: String,
    email: Option<String>,
    email_verified: Option<String>,
    /// JSON, which only users of a federated provider have.
    identities: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FederatedIdentity {
    provider_name: String,
}

/// A user who has just confirmed their sign-up.
struct NewUser {
    pool: String,
    name: String,
    sub: String,
    /// The address, if Cognito has verified it or the user's provider asserts it.
    email: Option<String>,
    provider: Option<String>,
}

impl Enrollment {
    /// Enrolls with these clients, this table and in this mode.
    pub fn new(users: Users, entries: Entries, table: String, mode: Mode) -> Self {
        Self { users, entries, table, mode }
    }

    /// Handles the trigger: sets the user's rights and returns the event unchanged.
    ///
    /// # Errors
    /// [`StepError`] of a call. Cognito shows its sentence to the user. The account stays confirmed.
    pub async fn confirmed(&self, event: Value) -> Result<Value, StepError> {
        let given: Event = runtime::input("a post-confirmation event", event.clone())?;
        let outcome = if given.trigger_source == CONFIRMED_SIGN_UP { self.enroll(given.try_into()?).await? } else { "ignored" };
        log_field(Field::Outcome, outcome);
        Ok(event)
    }

    async fn enroll(&self, user: NewUser) -> Result<&'static str, StepError> {
        log_field(Field::Subject, &user.sub);
        if self.has_institute(&user).await? {
            return Ok("unchanged");
        }
        match (self.mode, &user.provider) {
            (Mode::Found, None) => {
                let institute = self.found(&user).await?;
                self.give(&user, &institute, &[READ, WRITE]).await?;
                Ok("founded")
            }
            // A provider's users belong to its institute, also in the mode `found`.
            _ => match self.rule(&user).await? {
                Some(DomainRule { institute, read, write, .. }) => {
                    let rights = [(READ, read), (WRITE, write)].into_iter().filter_map(|(name, given)| given.then_some(name));
                    self.give(&user, &institute, &rights.collect::<Vec<_>>()).await?;
                    Ok("enrolled")
                }
                None => {
                    self.wait_for_operator(user).await?;
                    Ok("pending")
                }
            },
        }
    }

    /// Whether the user reads or writes for an institute already. Read from the user pool, because the event may be stale.
    async fn has_institute(&self, user: &NewUser) -> Result<bool, StepError> {
        let found = self
            .users
            .admin_get_user()
            .user_pool_id(&user.pool)
            .username(&user.name)
            .send()
            .await
            .map_err(|error| StepError::from_sdk("cognito-idp:AdminGetUser", &error))?;
        let institutes = found.user_attributes().iter().filter(|attribute| [READ, WRITE].contains(&attribute.name()));
        Ok(institutes.filter_map(AttributeType::value).any(|value| !value.is_empty()))
    }

    /// The rule for the user's address, if it gives a right. A rule with a provider applies to that provider's users, and a rule
    /// without one to the pool's own: a provider may assert any address.
    async fn rule(&self, user: &NewUser) -> Result<Option<DomainRule>, StepError> {
        let Some(Ok(domain)) = user.email.as_deref().map(EmailDomain::of_address) else { return Ok(None) };
        let found = self
            .entries
            .get_item()
            .table_name(&self.table)
            .key("kind", kind(Kind::Domain))
            .key("name", S(domain.to_string()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| StepError::from_sdk("dynamodb:GetItem", &error))?;
        let rule: Option<DomainRule> =
            found.item.map(serde_dynamo::from_item).transpose().map_err(|_| StepError::InvalidInput { what: "a domain rule" })?;
        Ok(rule.filter(|rule| rule.provider == user.provider && (rule.read || rule.write)))
    }

    /// Sets these attributes of the user to the institute.
    async fn give(&self, user: &NewUser, institute: &Source, attributes: &[&str]) -> Result<(), StepError> {
        log_field(Field::Source, institute);
        let mut request = self.users.admin_update_user_attributes().user_pool_id(&user.pool).username(&user.name);
        for name in attributes {
            let attribute = AttributeType::builder().name(*name).value(institute.as_str()).build();
            request = request.user_attributes(attribute.map_err(|_| StepError::InvalidInput { what: "a user attribute" })?);
        }
        let updated = request.send().await;
        updated.map(drop).map_err(|error| StepError::from_sdk("cognito-idp:AdminUpdateUserAttributes", &error))
    }

    /// Adds the user to the pending list in the enrollment table, unless the user is on it.
    async fn wait_for_operator(&self, user: NewUser) -> Result<(), StepError> {
        let NewUser { sub, name, email, provider, .. } = user;
        let entry = Pending { sub, username: name, email, provider, since: runtime::now() };
        let entry = serde_dynamo::to_item(entry).map_err(|_| StepError::InvalidInput { what: "an entry of the table" })?;
        let put = self
            .entries
            .put_item()
            .table_name(&self.table)
            .set_item(Some(entry))
            .item("kind", kind(Kind::Pending))
            .condition_expression("attribute_not_exists(kind)")
            .send()
            .await;
        match put {
            Err(error) if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) => Ok(()),
            other => other.map(drop).map_err(|error| StepError::from_sdk("dynamodb:PutItem", &error)),
        }
    }

    /// The institute that the user founds: the same for every call, even for simultaneous ones.
    async fn found(&self, user: &NewUser) -> Result<Source, StepError> {
        let updated = self
            .entries
            .update_item()
            .table_name(&self.table)
            .key("kind", kind(Kind::Founded))
            .key("name", S(user.sub.clone()))
            .update_expression("SET institute = if_not_exists(institute, :institute), since = if_not_exists(since, :now)")
            .expression_attribute_values(":institute", S(Uuid::new_v4().to_string()))
            .expression_attribute_values(":now", S(runtime::now().to_string()))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| StepError::from_sdk("dynamodb:UpdateItem", &error))?;
        let founded: Founded = serde_dynamo::from_item(updated.attributes.unwrap_or_default())
            .map_err(|_| StepError::InvalidInput { what: "a founded institute" })?;
        Ok(founded.institute)
    }
}

fn kind(kind: Kind) -> AttributeValue {
    S(kind.as_str().to_owned())
}

impl TryFrom<Event> for NewUser {
    type Error = StepError;

    fn try_from(event: Event) -> Result<Self, StepError> {
        let UserAttributes { sub, email, email_verified, identities } = event.request.user_attributes;
        let identities: Vec<FederatedIdentity> = serde_json::from_str(identities.as_deref().unwrap_or("[]"))
            .map_err(|_| StepError::InvalidInput { what: "a user's identities" })?;
        let mut providers = identities.into_iter().map(|identity| identity.provider_name);
        let provider = match (providers.next(), providers.next()) {
            (provider, None) => provider,
            // An account with several linked identities is not new, and it is unclear which of them verified its address.
            _ => return Err(StepError::InvalidInput { what: "a new user's only identity" }),
        };
        let vouched_for = provider.is_some() || email_verified.as_deref() == Some("true");
        Ok(Self { pool: event.user_pool_id, name: event.user_name, sub, email: email.filter(|_| vouched_for), provider })
    }
}
