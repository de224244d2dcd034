//! Rollback triggers: the alarms of a deployment that roll an update of its stacks back.
//! <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-rollback-triggers.html>

use std::time::Duration;

use anyhow::Result;
use aws_sdk_cloudformation::types::{RollbackConfiguration, RollbackTrigger, StackEvent};

use super::super::TEMPLATES;
use super::{Stacks, outputs_of};

/// The outputs that name such an alarm, and its type. CloudFormation takes five at most.
const ALARMS: [(&str, &str); 3] = [
    ("EnrollErrorsAlarmArn", "AWS::CloudWatch::Alarm"),
    ("PipelineRollbackAlarmArn", "AWS::CloudWatch::CompositeAlarm"),
    ("ApiRollbackAlarmArn", "AWS::CloudWatch::CompositeAlarm"),
];

/// No alarm. An update without a configuration would keep that of the update before.
pub(super) fn none() -> RollbackConfiguration {
    RollbackConfiguration::builder().set_rollback_triggers(Some(Vec::new())).monitoring_time_in_minutes(0).build()
}

impl Stacks {
    /// The same, but an alarm rolls an update back, until so many minutes after it. The alarms are those that the stacks of this
    /// deployment have now: CloudFormation also rolls back if one is missing.
    pub(in super::super) async fn monitored_by_alarms(mut self, deployment: &str, minutes: u16) -> Result<Self> {
        if minutes == 0 {
            return Ok(self);
        }
        let mut triggers = Vec::new();
        for template in TEMPLATES {
            let stack = self.find(&format!("{deployment}-{template}")).await?;
            let outputs = stack.as_ref().map(outputs_of).unwrap_or_default();
            let alarms = ALARMS.iter().filter_map(|(output, kind)| Some((outputs.get(*output)?, kind)));
            triggers.extend(alarms.map(|(arn, kind)| RollbackTrigger::builder().arn(arn).r#type(*kind).build()));
        }
        // Without an alarm CloudFormation would wait all the same.
        if !triggers.is_empty() {
            let configuration = RollbackConfiguration::builder().set_rollback_triggers(Some(triggers));
            self.rollback = configuration.monitoring_time_in_minutes(i32::from(minutes)).build();
        }
        Ok(self)
    }

    /// Why a stack is rolled back of which no resource failed, and what to do if that may be an alarm's doing.
    pub(super) fn rolled_back(&self, event: &StackEvent) -> Option<String> {
        let reason = event.resource_status_reason().filter(|reason| !reason.is_empty())?;
        let is_monitored = !self.monitoring_time().is_zero();
        let advice = if is_monitored { "; find out why, or deploy with `--monitor 0`" } else { "" };
        Some(format!("{reason}{advice}"))
    }

    /// For how long CloudFormation monitors the alarms after an update.
    pub(super) fn monitoring_time(&self) -> Duration {
        let minutes = self.rollback.monitoring_time_in_minutes().and_then(|minutes| u64::try_from(minutes).ok());
        Duration::from_secs(60 * minutes.unwrap_or_default())
    }
}
