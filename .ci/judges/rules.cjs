// Judges the templates by the rules for HIPAA and for NIST 800-53 of cdk-nag, which has the rules of AWS Config, and the state machine by
// asl-validator. Arguments: the templates. Every finding stops .ci/run but those below, and so does an exception that nothing needs.

const { readFileSync } = require("node:fs");
const { basename, join } = require("node:path");
const { App, Stack } = require("aws-cdk-lib");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");
const { HIPAASecurityChecks, NIST80053R5Checks } = require("cdk-nag");
const validate = require("asl-validator");

const ALL = "all";

// The findings that we accept: rule, resources, and why. Both sets have these rules.
const EXCEPTIONS = [
  ["IAMNoInlinePolicy", ALL,
    "Each policy belongs to one role and is deleted with it. A managed policy could be attached to another role."],
  ["LambdaInsideVPC", ALL,
    "The workers call only services of AWS, and IAM says which; a VPC would add NAT and no boundary."],
  ["LambdaDLQ", ALL,
    "It is for asynchronous calls. Ours are synchronous, or come from the queue, which has one."],
  ["LambdaConcurrency", ALL,
    "A parameter decides, which the rule cannot read (docs/CONFIGURATION.md)."],
  ["S3BucketLoggingEnabled", ALL,
    "Server access logs are best effort; CloudTrail records direct reads on request (AccessTrail)."],
  ["S3BucketReplicationEnabled", ALL,
    "The lake keeps all versions. Whether its data may leave the region is the hospital's decision."],
  ["DynamoDBInBackupPlan", ALL,
    "The tables have point-in-time recovery. A backup plan is the account's."],
  ["DynamoDBPITREnabled", ["tables.TablesProgressTable"],
    "It holds how far the tables are; without it the worker writes them again."],
  ["S3BucketVersioningEnabled", ["core.OverflowBucket"],
    "Older versions would keep messages that are deleted after 15 days."],
  ["S3BucketVersioningEnabled", ["analyst.ResultsBucket"],
    "A query can be run again, and older versions would keep results beyond their days."],
  ["S3DefaultEncryptionKMS", ["console.PageBucket", "core.ArtifactBucket"],
    "They hold the page that everybody may load, and code; both are encrypted with keys of S3."],
  ["CloudWatchAlarmAction", ["api.BudgetFiveMinutesAlarm", "api.BudgetHalfHourAlarm", "api.BudgetHourAlarm", "api.BudgetSixHoursAlarm"],
    "They tell nobody alone: two composite alarms combine them and notify."],
  ["CloudWatchLogGroupEncrypted", ["edge.WebAclLogGroup"],
    "Its lines have neither a message nor a token, and the deployment's key is in another region."],
  ["CloudTrailCloudWatchLogsEnabled", ["core.Trail"],
    "The trail's bucket has an object lock; a log group would be a second copy, and a second bill."],
];

/** Rule, resource and text of each finding in a template. */
function* findings(file) {
  const name = basename(file, ".yaml");
  const stack = new Stack(new App(), name);
  new CfnInclude(stack, "template", { templateFile: file });
  for (const Pack of [HIPAASecurityChecks, NIST80053R5Checks]) {
    for (const { ruleName, description, violatingResources } of new Pack().validateScope(stack).violations) {
      for (const { constructPath, resourceLogicalId } of violatingResources) {
        const resource = constructPath?.split("/").at(-1) ?? resourceLogicalId;
        yield { rule: ruleName.split("-").at(-1), resource: `${name}.${resource}`, text: `${ruleName}: ${description}` };
      }
    }
  }
}

const problems = [];
const needed = new Set();
for (const file of process.argv.slice(2)) {
  for (const { rule, resource, text } of findings(file)) {
    const exception = EXCEPTIONS.find(([name, of]) => name === rule && (of === ALL || of.includes(resource)));
    if (exception === undefined) {
      problems.push(`${resource}: ${text}`);
    } else {
      needed.add(`${rule} ${exception[1] === ALL ? ALL : resource}`);
    }
  }
}
for (const [rule, of] of EXCEPTIONS) {
  for (const resource of of === ALL ? [ALL] : of) {
    if (!needed.has(`${rule} ${resource}`)) {
      problems.push(`nothing needs the exception from ${rule} for ${resource}`);
    }
  }
}

// CloudFormation puts ARNs in the place of these.
const machine = readFileSync(join(__dirname, "ingest.asl.json"), "utf8").replaceAll("${Partition}", "aws");
const functions = machine.replaceAll(/\$\{(\w+)\}/g, "arn:aws:lambda:eu-central-1:111122223333:function:$1");
const { isValid, errorsText } = validate(JSON.parse(functions));
if (!isValid) {
  problems.push(`the state machine: ${errorsText()}`);
}

for (const problem of problems) {
  console.error(problem);
}
console.log(`${needed.size} exceptions, ${problems.length} problems`);
process.exitCode = problems.length === 0 ? 0 : 1;
