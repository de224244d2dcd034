//! Releases of held messages by those who may not store them. Here the API's authorizer and the worker `release` decide, not a role.

use anyhow::{Context, Result, bail, ensure};
use client::http::Answer;
use domain::{Envelope, Status};
use serde_json::json;
use sluice_tests::{Caller, Harness};

use super::plain::{Row, row};
use crate::authorize::staff;
use crate::held::{expired, until};

pub(super) const ROWS: &[Row] = &[
    row("release-others", "release a message of another institute, as a writer of one's own"),
    row("release-all-others", "release all that is held, to get another institute's messages released"),
    row("release-reader", "release a message of one's own institute as a reader"),
    row("release-all-reader", "release all that is held there as a reader"),
    row("release-staff", "release a message as lake staff"),
    row("release-all-staff", "release all that is held as lake staff"),
];

struct Scene {
    it: Harness,
    /// A held message that a row names, and one that no row names.
    named: Envelope,
    unnamed: Envelope,
    stranger: Caller,
    reader: Caller,
    staff: Caller,
}

impl Scene {
    async fn new() -> Result<Self> {
        let (it, elsewhere) = (Harness::new()?, Harness::new()?);
        Ok(Self {
            named: expired(&it).await?,
            unnamed: expired(&it).await?,
            stranger: elsewhere.admin().await?,
            reader: it.caller(&it.institute, "").await?,
            staff: staff(&it).await?,
            it,
        })
    }

    async fn release(&self, caller: &Caller) -> Result<Answer> {
        self.it.api.release(self.named.message_id.as_str(), &caller.token).await
    }

    async fn release_all(&self, caller: &Caller) -> Result<Answer> {
        self.it.api.release_held(&json!({}), &caller.token).await
    }

    /// Makes a row's request, and looks whether it is refused as it should be.
    async fn attempt(&self, id: &str) -> Result<()> {
        match id {
            // As a message that nobody has.
            "release-others" => expect(&self.release(&self.stranger).await?, 404),
            // The request names no institute, so it is allowed and finds nothing.
            "release-all-others" => {
                let answer = self.release_all(&self.stranger).await?;
                ensure!(answer.json() == json!({ "released": [], "refused": [] }), "{}", answer.json());
                expect(&answer, 202)
            }
            "release-reader" => self.it.is_refused_route(&self.release(&self.reader).await?),
            "release-all-reader" => self.it.is_refused_route(&self.release_all(&self.reader).await?),
            // API Gateway's own authorizer does not know the staff's user pool.
            "release-staff" => expect(&self.release(&self.staff).await?, self.it.bad_token()),
            "release-all-staff" => expect(&self.release_all(&self.staff).await?, self.it.bad_token()),
            other => bail!("nobody tries `{other}`"),
        }
    }
}

fn expect(answer: &Answer, status: u16) -> Result<()> {
    ensure!(answer.status == status, "{}: {}", answer.status, String::from_utf8_lossy(&answer.body));
    Ok(())
}

#[tokio::test]
async fn only_a_writer_of_its_institute_releases_a_held_message() -> Result<()> {
    let scene = Scene::new().await?;
    let (it, named, unnamed) = (&scene.it, &scene.named.message_id, &scene.unnamed.message_id);
    let before = (it.record(named).await?, it.record(unnamed).await?);
    for row in ROWS {
        scene.attempt(row.id).await.with_context(|| row.id.to_owned())?;
        let after = (it.record(named).await?, it.record(unnamed).await?);
        ensure!(before == after, "`{}`: it was refused, and yet something has changed", row.id);
    }
    // The twin of each row: the same requests by a writer.
    let writer = it.caller("", &it.institute).await?;
    expect(&scene.release(&writer).await?, 202)?;
    until(it, &scene.named, Status::Stored).await?;
    let answer = scene.release_all(&writer).await?;
    expect(&answer, 202)?;
    let released: Vec<_> = answer.json()["released"].as_array().into_iter().flatten().map(|it| it["messageId"].clone()).collect();
    assert_eq!(released, [json!(unnamed)]);
    until(it, &scene.unnamed, Status::Stored).await
}
