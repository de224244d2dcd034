//! What an operator's audit says of the institutes of a test.

use std::time::Duration;

use anyhow::{Result, ensure};
use domain::Source;
use sluice::operator::audit::{Finding, Options, Report, audit};
use sluice::output::Reporter;
use tokio::time::{Instant, sleep};

use crate::{DEADLINE, Harness};

impl Harness {
    /// Audits everything that these institutes have submitted up to now.
    pub async fn audit(&self, sources: Vec<Source>) -> Result<(Report, Vec<Finding>)> {
        let options = Options { sources, settle: Duration::ZERO, ..Options::default() };
        let mut findings = Vec::new();
        let report = audit(&self.aws, self.outputs, &options, &Reporter::default(), |finding| {
            findings.push(finding.clone());
            Ok(())
        })
        .await?;
        Ok((report, findings))
    }

    /// Audits until nothing is found: the line of an event may come a moment after the status.
    pub async fn audit_until_clean(&self, sources: Vec<Source>) -> Result<Report> {
        let began = Instant::now();
        loop {
            let (report, findings) = self.audit(sources.clone()).await?;
            if report.is_clean() {
                return Ok(report);
            }
            ensure!(began.elapsed() < DEADLINE, "{findings:?}");
            sleep(Duration::from_millis(300)).await;
        }
    }
}
