//! What AWS keeps no copy of: users, the rules by which new ones get their rights, and the settings of the stacks.
//!
//! A backup is a folder of files that a person can read and edit. Passwords are not in it, because Cognito tells them to nobody.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use domain::enrollment::{DomainRule, EmailDomain};
use serde::{Deserialize, Serialize};

use super::enrollment::Enrollment;
use super::users::account::Account;
use super::users::directory::Directory;
use super::users::roster;
use client::aws::Aws;
use client::outputs::Outputs;
use client::private_file;

/// The files of a backup.
const ABOUT: &str = "backup.json";
const USERS: &str = "users.csv";
const STAFF: &str = "staff.csv";
const SUBJECTS: &str = "subjects.csv";
const RULES: &str = "rules.json";

/// The only version there is.
const VERSION: u32 = 1;

/// The description of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct About {
    version: u32,
    /// The deployment's name.
    pub(crate) stack: String,
    /// Its region.
    pub(crate) region: String,
    /// When it was made.
    pub(crate) taken_at: jiff::Timestamp,
    /// The parameters of the stacks whose values no other stack gives, without the secret ones.
    pub(crate) settings: BTreeMap<String, String>,
    /// The users that are in the files, of the institutes and of the lake's staff.
    pub(crate) users: usize,
    pub(crate) staff: usize,
    /// Users that are not in the files. Users of identity providers come back by themselves, and accounts that may be a
    /// stranger's should not come back.
    pub(crate) left_out: usize,
}

/// The user pools of a deployment and its rules.
#[derive(Debug)]
pub(crate) struct Accounts {
    pub(crate) users: Directory,
    pub(crate) staff: Directory,
    pub(crate) enrollment: Enrollment,
}

impl Accounts {
    pub(crate) fn of(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        Ok(Self {
            users: Directory::new(aws, outputs, &outputs.user_pool_id)?,
            staff: Directory::new(aws, outputs, outputs.staff_pool()?.0)?,
            enrollment: Enrollment::new(aws, outputs)?,
        })
    }
}

/// A backup in memory.
#[derive(Debug)]
pub(crate) struct Backup {
    pub(crate) about: About,
    /// As `sluice users import` reads them.
    pub(crate) users: Vec<u8>,
    pub(crate) staff: Vec<u8>,
    /// The person of each `sub`: a new pool gives everybody another one, and records and logs have the old one.
    subjects: Vec<u8>,
    pub(crate) rules: Vec<DomainRule>,
}

impl Backup {
    /// Reads a deployment.
    ///
    /// # Errors
    /// When AWS refuses a call.
    pub(crate) async fn take(aws: &Aws, outputs: &Outputs) -> Result<Self> {
        let accounts = Accounts::of(aws, outputs)?;
        let (users, staff) = (accounts.users.accounts().await?, accounts.staff.accounts().await?);
        let subjects = subjects(users.iter().chain(&staff))?;
        let all = users.len() + staff.len();
        let own = |accounts: Vec<Account>| accounts.into_iter().filter(|it| !it.is_federated() && it.doubt().is_none());
        let (users, staff): (Vec<_>, Vec<_>) = (own(users).collect(), own(staff).collect());
        let about = About {
            version: VERSION,
            stack: outputs.stack.clone(),
            region: outputs.region.clone(),
            taken_at: jiff::Timestamp::now(),
            settings: super::deploy::settings_of(aws, &outputs.stack).await?,
            users: users.len(),
            staff: staff.len(),
            left_out: all - users.len() - staff.len(),
        };
        let rules = accounts.enrollment.rules().await?;
        Ok(Self { about, users: roster::export(&users)?, staff: roster::export(&staff)?, subjects, rules })
    }

    /// Writes the folder, which only its owner can look into.
    ///
    /// # Errors
    /// When the folder is there already, or cannot be written.
    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
        made.with_context(|| format!("making the folder {} for the backup", folder.display()))?;
        private_file::write(&folder.join(USERS), &self.users)?;
        private_file::write(&folder.join(STAFF), &self.staff)?;
        private_file::write(&folder.join(SUBJECTS), &self.subjects)?;
        private_file::write(&folder.join(RULES), &serde_json::to_vec_pretty(&self.rules)?)?;
        // Last, so that a folder without it is no backup.
        private_file::write(&folder.join(ABOUT), &serde_json::to_vec_pretty(&self.about)?)
    }

    /// Reads a folder.
    ///
    /// # Errors
    /// When it holds no backup, or one of another version.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let read = |name: &str| {
            let file = folder.join(name);
            std::fs::read(&file).with_context(|| format!("reading {}", file.display()))
        };
        let about: About = serde_json::from_slice(&read(ABOUT)?).with_context(|| format!("{ABOUT} is none of ours"))?;
        ensure!(about.version == VERSION, "the backup has version {}, and this program reads {VERSION}", about.version);
        let rules = serde_json::from_slice(&read(RULES)?).with_context(|| format!("{RULES} is none of ours"))?;
        Ok(Self { about, users: read(USERS)?, staff: read(STAFF)?, subjects: read(SUBJECTS)?, rules })
    }
}

/// A rule of a backup, and the present rule of its domain where that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleToDo {
    pub(crate) rule: DomainRule,
    /// The present rule, which would be lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) replaces: Option<DomainRule>,
}

/// The rules of a backup that differ from the present ones. The time at which a rule was made does not count.
pub(crate) fn rules_to_do(wanted: &[DomainRule], there: &[DomainRule]) -> Vec<RuleToDo> {
    let there: BTreeMap<&EmailDomain, &DomainRule> = there.iter().map(|rule| (&rule.domain, rule)).collect();
    let differing = wanted.iter().filter_map(|rule| {
        let replaces = there.get(&rule.domain).map(|rule| (*rule).clone());
        let same = replaces.as_ref().is_some_and(|it| DomainRule { added_at: rule.added_at, ..it.clone() } == *rule);
        (!same).then(|| RuleToDo { rule: rule.clone(), replaces })
    });
    differing.collect()
}

/// The settings that differ from the present ones.
pub(crate) fn settings_to_do(wanted: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    wanted
        .iter()
        .filter(|(name, value)| now.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn subjects<'a>(accounts: impl Iterator<Item = &'a Account>) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(["subject", "email"])?;
    for account in accounts {
        writer.write_record([&roster::guarded(&account.username), &roster::guarded(&account.email)])?;
    }
    Ok(writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(domain: &str, institute: &str, added_at: u64) -> DomainRule {
        DomainRule {
            domain: domain.parse().unwrap(),
            institute: institute.parse().unwrap(),
            read: true,
            write: false,
            provider: None,
            added_at: (std::time::UNIX_EPOCH + std::time::Duration::from_secs(added_at)).into(),
        }
    }

    #[test]
    fn an_equal_rule_is_left_alone_and_a_different_one_is_shown() {
        let there = [rule("a.example", "a", 1), rule("b.example", "b", 1), rule("more.example", "m", 1)];
        let wanted = [rule("a.example", "a", 2), rule("b.example", "other", 2), rule("c.example", "c", 2)];
        let todo = rules_to_do(&wanted, &there);
        let told: Vec<_> = todo.iter().map(|it| (it.rule.domain.as_str(), it.replaces.is_some())).collect();
        assert_eq!(told, [("b.example", true), ("c.example", false)]);
        assert_eq!(rules_to_do(&wanted, &wanted), []);
    }

    #[test]
    fn only_settings_that_differ_are_shown() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (wanted, now) = (of(&[("HeldDays", "30"), ("SignUp", "closed")]), of(&[("SignUp", "closed"), ("MultiFactor", "ON")]));
        assert_eq!(settings_to_do(&wanted, &now), of(&[("HeldDays", "30")]));
    }
}
