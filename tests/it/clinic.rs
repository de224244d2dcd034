//! The veterinary clinic of `examples/veterinary-clinic`: another API, other user pools and other policies, answered for by
//! the same authorizer. What it gives to whom is what the AWS Security Blog's post on a unified authorization layer shows.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use aws_sdk_cloudformation::types::{Capability, Parameter, StackStatus};
use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, MessageActionType};
use aws_sdk_s3::primitives::ByteStream;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use client::aws::Aws;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sluice::operator::package::{Architecture, Profile, Purpose, package_authorizer};
use sluice::operator::workspace::Workspace;
use sluice::output::Reporter;
use sluice_tests::{DEADLINE, Harness, unique};

use crate::logs;

/// Number and record of each appointment, letter for letter as the post has it.
const APPOINTMENTS: [(&str, &str); 3] = [
    (
        "PI-T123",
        r#"{"appointment": {"id": "PI-T123", "name": "Dave", "Pet": "Onyx - Dog. 2y 3m", "Phone Number": "+1234567", "Visit History": "Patient History from last visit with primary vet", "Assigned Veterinarian": "Jane"}}"#,
    ),
    (
        "PI-T124",
        r#"{"appointment": {"id": "PI-T124", "name": "Joy", "Pet": "Jelly - Dog. 6y 2m", "Phone Number": "+1368728", "Visit History": "None", "Assigned Veterinarian": "Jane"}}"#,
    ),
    (
        "PI-T125",
        r#"{"appointment": {"id": "PI-T125", "name": "Dave", "Pet": "Sassy - Cat. 1y", "Phone Number": "+1398777", "Visit History": "Patient History from last visit with primary vet", "Assigned Veterinarian": "Adam"}}"#,
    ),
];

/// Which appointments each person gets. The post shows six of these twelve; the others follow from its policies and its data.
const TABLE: [(Pool, &str, [bool; 3]); 4] = [
    (Pool::Veterinarians, "Jane", [true, true, false]),
    (Pool::Veterinarians, "Adam", [false, false, true]),
    (Pool::Clients, "Dave", [true, false, true]),
    (Pool::Clients, "Joy", [false, true, false]),
];

const NO_TOKEN: &str = r#"{"message":"Unauthorized"}"#;
const REFUSED: &str = r#"{"Message":"User is not authorized to access this resource"}"#;

/// A header, a payload and a signature, of nobody.
fn only_jwt_shaped() -> String {
    let parts = [r#"{"alg":"HS256","typ":"JWT"}"#, r#"{"sub":"1234567890"}"#, "signature"];
    parts.map(|part| BASE64_URL_SAFE_NO_PAD.encode(part)).join(".")
}

/// Of which user pool somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    Veterinarians,
    Clients,
}

/// What somebody signed in has.
#[derive(Debug)]
struct Tokens {
    access: SecretString,
    id: SecretString,
}

/// A deployed clinic. Its stack goes with it.
struct Clinic<'a> {
    it: &'a Harness,
    stack: String,
    outputs: BTreeMap<String, String>,
    http: reqwest::Client,
    since: i64,
}

impl<'a> Clinic<'a> {
    async fn open(it: &'a Harness) -> Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/veterinary-clinic");
        let bucket = &it.outputs.artifact_bucket;
        let (key, zip) = authorizer(&folder.join("policies")).await?;
        it.aws.s3().put_object().bucket(bucket).key(&key).body(ByteStream::from_path(zip).await?).send().await?;
        // From here on `drop` cleans up.
        let mut clinic = Self {
            it,
            stack: format!("clinic-{}", unique()),
            outputs: BTreeMap::new(),
            http: reqwest::Client::builder().timeout(DEADLINE).build()?,
            since: logs::now(),
        };
        let parameters = [("CodeBucket", bucket.as_str()), ("CodeKey", &key), ("Architecture", Architecture::host().name())];
        let parameters = parameters.map(|(name, value)| Parameter::builder().parameter_key(name).parameter_value(value).build());
        aws_sdk_cloudformation::Client::new(it.aws.config())
            .create_stack()
            .stack_name(&clinic.stack)
            .template_body(std::fs::read_to_string(folder.join("template.yaml"))?)
            .set_parameters(Some(parameters.into()))
            .capabilities(Capability::CapabilityIam)
            .send()
            .await?;
        let stack = settled(&it.aws, &clinic.stack).await?.context("the stack is gone again")?;
        ensure!(stack.stack_status() == Some(&StackStatus::CreateComplete), "{:?}", stack.stack_status_reason());
        let outputs = stack.outputs().iter();
        clinic.outputs = outputs.filter_map(|it| Some((it.output_key()?.to_owned(), it.output_value()?.to_owned()))).collect();
        Ok(clinic)
    }

    /// A new person of a pool, signed in.
    async fn person(&self, pool: Pool, name: &str) -> Result<Tokens> {
        let kind = if pool == Pool::Veterinarians { "Veterinarian" } else { "Client" };
        let (user_pool, client_id) = (self.output(&format!("{kind}PoolId"))?, self.output(&format!("{kind}ClientId"))?);
        let password = format!("Passw0rd-{}!", unique());
        let cognito = aws_sdk_cognitoidentityprovider::Client::new(self.it.aws.config());
        let suppress = MessageActionType::Suppress;
        cognito.admin_create_user().user_pool_id(user_pool).username(name).message_action(suppress).send().await?;
        let permanent = cognito.admin_set_user_password().user_pool_id(user_pool).username(name).permanent(true);
        permanent.password(&password).send().await?;
        let signed_in = cognito
            .admin_initiate_auth()
            .user_pool_id(user_pool)
            .client_id(client_id)
            .auth_flow(AuthFlowType::AdminUserPasswordAuth)
            .auth_parameters("USERNAME", name)
            .auth_parameters("PASSWORD", password)
            .send()
            .await?;
        let tokens = signed_in.authentication_result().context("no tokens")?;
        let token = |token: Option<&str>| token.map(SecretString::from).context("a token is missing");
        Ok(Tokens { access: token(tokens.access_token())?, id: token(tokens.id_token())? })
    }

    /// `GET /appointment/<number>`: status and body.
    async fn get(&self, number: &str, authorization: Option<&str>) -> Result<(u16, String)> {
        let endpoint = self.it.aws.endpoint_url().context("an endpoint")?;
        let url = format!("{endpoint}/_aws/execute-api/{}/dev/appointment/{number}", self.output("ApiId")?);
        let mut request = self.http.get(url);
        if let Some(authorization) = authorization {
            request = request.header("Authorization", authorization);
        }
        let answer = request.send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// The lines of the authorizer, one for each time that it was asked, once there are that many.
    async fn decisions(&self, at_least: usize) -> Result<Vec<Value>> {
        let group = format!("/aws/lambda/{}", self.output("AuthorizeFunctionName")?);
        let began = tokio::time::Instant::now();
        loop {
            let lines = logs::structured(&logs::lines(self.it, &group, self.since, "").await?)?;
            let decisions: Vec<Value> = lines.into_iter().filter(|line| line.get("route").is_some()).collect();
            if decisions.len() >= at_least {
                return Ok(decisions);
            }
            ensure!(began.elapsed() < DEADLINE, "the authorizer wrote {} lines of {at_least}", decisions.len());
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }

    fn output(&self, name: &str) -> Result<&str> {
        self.outputs.get(name).map(String::as_str).with_context(|| format!("the stack has no output {name}"))
    }
}

impl Drop for Clinic<'_> {
    /// Whatever comes of the test, the stack goes.
    fn drop(&mut self) {
        let (aws, stack) = (self.it.aws.clone(), self.stack.clone());
        let clean_up = move || -> Result<()> {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
                aws_sdk_cloudformation::Client::new(aws.config()).delete_stack().stack_name(&stack).send().await?;
                ensure!(settled(&aws, &stack).await?.is_none(), "the stack {stack} is still there");
                Ok(())
            })
        };
        let gone = std::thread::spawn(clean_up).join();
        assert!(std::thread::panicking() || matches!(gone, Ok(Ok(()))), "{gone:?}");
    }
}

/// The stack once nothing happens to it any more; none when it was deleted.
async fn settled(aws: &Aws, name: &str) -> Result<Option<aws_sdk_cloudformation::types::Stack>> {
    let client = aws_sdk_cloudformation::Client::new(aws.config());
    let began = tokio::time::Instant::now();
    loop {
        let Ok(answer) = client.describe_stacks().stack_name(name).send().await else { return Ok(None) };
        let stack = answer.stacks.unwrap_or_default().pop();
        match stack.as_ref().and_then(|stack| stack.stack_status()) {
            None | Some(StackStatus::DeleteComplete) => return Ok(None),
            Some(status) if !status.as_str().ends_with("_IN_PROGRESS") => return Ok(stack),
            Some(status) => ensure!(began.elapsed() < DEADLINE, "{name} is still {status:?}"),
        }
        tokio::time::sleep(aws.poll_interval()).await;
    }
}

/// The authorizer as `sluice policies package` packs it with a policy folder: key and file.
async fn authorizer(policies: &Path) -> Result<(String, PathBuf)> {
    let workspace = Workspace::find().await?;
    let packed = package_authorizer(&workspace, Purpose::Local(Profile::Dev), policies, &Reporter::silent()).await?;
    Ok((packed.key, packed.zip))
}

fn record(number: &str) -> &'static str {
    APPOINTMENTS.iter().find(|(it, _)| *it == number).map_or("", |(_, record)| record)
}

#[tokio::test]
async fn each_person_gets_their_own_appointments_only() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    for (pool, name, gets) in TABLE {
        let person = clinic.person(pool, name).await?;
        for ((number, record), gets) in APPOINTMENTS.into_iter().zip(gets) {
            let answer = clinic.get(number, Some(person.access.expose_secret())).await?;
            let expected = if gets { (200, record.to_owned()) } else { (403, REFUSED.to_owned()) };
            assert_eq!(answer, expected, "{name}, {number}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_a_token_it_is_401_and_with_a_string_only_shaped_like_one_403() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    for (number, _) in APPOINTMENTS {
        assert_eq!(clinic.get(number, None).await?, (401, NO_TOKEN.to_owned()), "{number}");
        assert_eq!(clinic.get(number, Some(&only_jwt_shaped())).await?, (403, REFUSED.to_owned()), "{number}");
    }
    Ok(())
}

#[tokio::test]
async fn an_id_token_is_not_taken_for_an_access_token() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    for (pool, name, number) in [(Pool::Veterinarians, "Adam", "PI-T125"), (Pool::Clients, "Joy", "PI-T124")] {
        let person = clinic.person(pool, name).await?;
        assert_eq!(clinic.get(number, Some(person.id.expose_secret())).await?, (403, REFUSED.to_owned()), "{name}");
        let bearer = format!("Bearer {}", person.access.expose_secret());
        assert_eq!(clinic.get(number, Some(&bearer)).await?, (200, record(number).to_owned()), "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn a_veterinarian_called_like_a_client_is_not_that_client_nor_the_other_way_round() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    let others = [(Pool::Veterinarians, "Dave"), (Pool::Veterinarians, "Joy"), (Pool::Clients, "Jane"), (Pool::Clients, "Adam")];
    for (pool, name) in others {
        let person = clinic.person(pool, name).await?;
        for (number, _) in APPOINTMENTS {
            let answer = clinic.get(number, Some(person.access.expose_secret())).await?;
            assert_eq!(answer, (403, REFUSED.to_owned()), "{name} of the {pool:?}, {number}");
        }
    }
    // A name is one only as it is written.
    let dave = clinic.person(Pool::Clients, "dave").await?;
    assert_eq!(clinic.get("PI-T123", Some(dave.access.expose_secret())).await?.0, 403);
    Ok(())
}

#[tokio::test]
async fn a_cached_answer_serves_its_own_person_and_appointment_only() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    let mut people = Vec::new();
    for (pool, name, gets) in TABLE {
        people.push((name, clinic.person(pool, name).await?, gets));
    }
    // Once so that all twelve answers are in the cache, and twice more from there, in another order.
    for round in 0..3 {
        for turn in 0..people.len() * APPOINTMENTS.len() {
            let (name, person, gets) = &people[(turn + round) % people.len()];
            let nth = (turn / people.len() + round) % APPOINTMENTS.len();
            let (number, record) = APPOINTMENTS[nth];
            let answer = clinic.get(number, Some(person.access.expose_secret())).await?;
            let expected = if gets[nth] { (200, record.to_owned()) } else { (403, REFUSED.to_owned()) };
            assert_eq!(answer, expected, "{name}, {number}, round {round}");
        }
    }
    // Asked after all of them, so that nothing of them is still under way to the log.
    assert_eq!(clinic.get("the-end", Some(people[0].1.access.expose_secret())).await?.0, 403);
    let decisions = clinic.decisions(13).await?;
    assert_eq!(decisions.len(), 13, "the authorizer was asked again for what is cached");
    let allowed = decisions.iter().filter(|line| line["outcome"] == "allowed").count();
    assert_eq!(allowed, 6, "{decisions:?}");
    for (_, person, _) in &people {
        let signature = person.access.expose_secret().rsplit('.').next().context("a signature")?;
        assert!(!decisions.iter().any(|line| line.to_string().contains(signature)), "a token is in the log");
    }
    Ok(())
}

#[tokio::test]
async fn a_path_with_a_wildcard_opens_nothing() -> Result<()> {
    let it = Harness::new()?;
    let clinic = Clinic::open(&it).await?;
    let jane = clinic.person(Pool::Veterinarians, "Jane").await?;
    let jane = Some(jane.access.expose_secret());
    for path in ["*", "%2A", "PI-T12*", "PI-T12%3F", "$%7Bcontext.path%7D"] {
        assert_eq!(clinic.get(path, jane).await?, (403, REFUSED.to_owned()), "{path}");
        assert_eq!(clinic.get("PI-T125", jane).await?, (403, REFUSED.to_owned()), "{path} opened another appointment");
    }
    assert_eq!(clinic.get("PI-T123", jane).await?, (200, record("PI-T123").to_owned()));
    Ok(())
}
