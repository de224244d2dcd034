//! All other services: identities, roles, queues, keys, functions.

use super::*;

pub(in super::super) const SERVICES: &[Row] = &[
    row(
        "invoke-workers",
        "invoke each worker with an API event that claims another institute",
        NO,
        Admin,
        |p| {
            let claims = json!({ "custom:read": p.other, "custom:write": p.other });
            let event = json!({ "version": "2.0", "routeKey": "POST /er7", "body": "MSH|", "requestContext": { "authorizer": { "jwt": { "claims": claims } } } });
            let invoke = |name: &String| {
                let arn = format!("arn:aws:lambda:{}:{}:function:{name}", p.region, p.account);
                Call::rest("lambda", "POST", &format!("/2015-03-31/functions/{name}/invocations"), &event)
                    .asks(Ask::new("lambda:InvokeFunction", arn))
            };
            p.functions.iter().map(invoke).collect()
        },
        RootMay,
    ),
    row(
        "change-workers",
        "read or replace a worker's code",
        NO,
        Admin,
        |p| {
            let name = &p.functions[0];
            let arn = format!("arn:aws:lambda:{}:{}:function:{name}", p.region, p.account);
            let path = format!("/2015-03-31/functions/{name}");
            vec![
                Call::rest("lambda", "GET", &path, &json!(null)).asks(Ask::new("lambda:GetFunction", &arn)),
                Call::rest("lambda", "PUT", &format!("{path}/code"), &json!({ "ZipFile": "UEs=" }))
                    .asks(Ask::new("lambda:UpdateFunctionCode", &arn)),
            ]
        },
        RootMay,
    ),
    row(
        "queue",
        "send an envelope to the queue, receive, purge",
        NO,
        Admin,
        |p| {
            let call = |name: &str, body| json_call("sqs", &format!("AmazonSQS.{name}"), &format!("sqs:{name}"), &p.queue, body);
            vec![
                call("SendMessage", json!({ "QueueUrl": p.queue_url, "MessageBody": "{}" })),
                call("ReceiveMessage", json!({ "QueueUrl": p.queue_url })),
                call("GetQueueAttributes", json!({ "QueueUrl": p.queue_url, "AttributeNames": ["All"] })),
                call("PurgeQueue", json!({ "QueueUrl": p.queue_url })),
            ]
        },
        RootMay,
    ),
    row(
        "topic",
        "publish an event, subscribe to all of them",
        NO,
        Admin,
        |p| {
            let publish = [("TopicArn", p.topic.as_str()), ("Message", "{}")];
            let subscribe = [("TopicArn", p.topic.as_str()), ("Protocol", "sqs"), ("Endpoint", p.queue.as_str())];
            vec![
                form_call("sns", "2010-03-31", ("Publish", "sns:Publish"), &p.topic, &publish),
                form_call("sns", "2010-03-31", ("Subscribe", "sns:Subscribe"), &p.topic, &subscribe),
            ]
        },
        RootMay,
    ),
    row(
        "state-machine",
        "start an execution, read the definition",
        NO,
        Admin,
        |p| {
            let call = |name: &str, body| {
                json_call("states", &format!("AWSStepFunctions.{name}"), &format!("states:{name}"), &p.machine, body)
            };
            vec![
                call("StartSyncExecution", json!({ "stateMachineArn": p.machine, "input": "{}" })),
                call("StartExecution", json!({ "stateMachineArn": p.machine, "input": "{}" })),
                call("DescribeStateMachine", json!({ "stateMachineArn": p.machine })),
            ]
        },
        RootMay,
    ),
    row(
        "keys",
        "use the data key or the token key directly",
        NO,
        Admin,
        |p| {
            let call = |name: &str, key: &str, body| {
                json_call("kms", &format!("TrentService.{name}"), &format!("kms:{name}"), key, body)
            };
            let calls = |key: &str| {
                [
                    call("Encrypt", key, json!({ "KeyId": key, "Plaintext": "eA==" })),
                    call("Decrypt", key, json!({ "KeyId": key, "CiphertextBlob": "eA==" })),
                    call("GenerateDataKey", key, json!({ "KeyId": key, "KeySpec": "AES_256" })),
                    call("DescribeKey", key, json!({ "KeyId": key })),
                ]
            };
            [calls(&p.data_key), calls(&p.token_key)].concat()
        },
        RootMay,
    ),
    row(
        "key-of-other-bucket",
        "have S3 use the data key for another bucket, by a reader for writing, by a writer for reading",
        NO,
        Reader,
        |p| {
            vec![
                Call::question(key_ask(p, "kms:Decrypt", "s3", "arn:aws:s3:::another")),
                Call::question(key_ask(p, "kms:GenerateDataKey", "s3", &p.bucket_arn())),
                Call::question(key_ask(p, "kms:Decrypt", "sqs", "")),
            ]
        },
        OWN_GET,
    ),
    row(
        "other-buckets",
        "get and put in the buckets of messages on their way, of held messages and of code",
        NO,
        Admin,
        |p| {
            let there = |bucket: &String| {
                let there =
                    Place { bucket: bucket.clone(), data_key: p.data_key.clone(), region: p.region.clone(), ..Place::default() };
                [put(&there, &p.key_of(&p.own), &labels(&p.own)), get(&there, &p.mine)]
            };
            p.other_buckets.iter().flat_map(there).collect()
        },
        OWN_PUT,
    ),
    row(
        "uploads",
        "get, put and list uploads, one's own and others', without a URL of the API",
        NO,
        Admin,
        |p| {
            let overflow = p.other_buckets.first().cloned().unwrap_or_default();
            let there = Place { bucket: overflow, data_key: p.data_key.clone(), region: p.region.clone(), ..Place::default() };
            let upload = |institute: &str| format!("{}{institute}/{}", domain::object::UPLOADS, p.id);
            let object = |institute: &str| Object { key: upload(institute), ..Object::default() };
            let calls = |institute: &str| [put(&there, &upload(institute), &[]), get(&there, &object(institute))];
            let list = bucket("GET", "list-type=2&prefix=_uploads%2F", "s3:ListBucket", &there, "");
            [p.own.as_str(), &p.other].into_iter().flat_map(calls).chain([list]).collect()
        },
        OWN_PUT,
    ),
    row(
        "assume-worker",
        "assume a worker's role",
        NO,
        Admin,
        |p| {
            let assume = |role: &String| {
                form_call(
                    "sts",
                    "2011-06-15",
                    ("AssumeRole", "sts:AssumeRole"),
                    role,
                    &[("RoleArn", role), ("RoleSessionName", "session")],
                )
            };
            p.worker_roles.iter().map(assume).collect()
        },
        OWN_SESSION,
    ),
    row(
        "assume-user-role",
        "assume the users' role once more, with tags of one's own choice",
        NO,
        Admin,
        |p| {
            let fields = [
                ("RoleArn", p.user_role.as_str()),
                ("RoleSessionName", "session"),
                ("Tags.member.1.Key", "read"),
                ("Tags.member.1.Value", p.other.as_str()),
            ];
            vec![form_call("sts", "2011-06-15", ("AssumeRole", "sts:AssumeRole"), &p.user_role, &fields)]
        },
        OWN_SESSION,
    ),
    row(
        "iam",
        "change the users' role, make a user",
        NO,
        Admin,
        |p| {
            let name = name_of(&p.user_role);
            let all = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
            let put = [("RoleName", name), ("PolicyName", "all"), ("PolicyDocument", all)];
            let attach = [("RoleName", name), ("PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")];
            vec![
                form_call("iam", "2010-05-08", ("PutRolePolicy", "iam:PutRolePolicy"), &p.user_role, &put),
                form_call("iam", "2010-05-08", ("AttachRolePolicy", "iam:AttachRolePolicy"), &p.user_role, &attach),
                form_call(
                    "iam",
                    "2010-05-08",
                    ("CreateAccessKey", "iam:CreateAccessKey"),
                    &anything("iam"),
                    &[("UserName", "nobody-none")],
                ),
            ]
        },
        RootMay,
    ),
    row(
        "identity-pool-tags",
        "map the tag `read` to an attribute that users write themselves",
        CLOSED,
        Admin,
        |p| {
            let body = json!({ "IdentityPoolId": p.identity_pool, "IdentityProviderName": p.provider, "PrincipalTags": { "read": "name" } });
            vec![identity(p, "SetPrincipalTagAttributeMap", body)]
        },
        RootMay,
    ),
    row(
        "identity-pool-settings",
        "let strangers in, list who is there, give users another role",
        CLOSED,
        Admin,
        |p| {
            vec![
                identity(
                    p,
                    "UpdateIdentityPool",
                    json!({ "IdentityPoolId": p.identity_pool, "IdentityPoolName": "pool", "AllowUnauthenticatedIdentities": true }),
                ),
                identity(p, "ListIdentities", json!({ "IdentityPoolId": p.identity_pool, "MaxResults": 10 })),
                identity(
                    p,
                    "SetIdentityPoolRoles",
                    json!({ "IdentityPoolId": p.identity_pool, "Roles": { "authenticated": p.user_role } }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "administer-users",
        "set one's claims as an administrator would, look at other users",
        NO,
        Admin,
        |p| {
            let arn = format!("arn:aws:cognito-idp:{}:{}:userpool/{}", p.region, p.account, p.user_pool);
            let call = |name: &str, body| {
                json_call(
                    "cognito-idp",
                    &format!("AWSCognitoIdentityProviderService.{name}"),
                    &format!("cognito-idp:{name}"),
                    &arn,
                    body,
                )
            };
            let claim = json!([{ "Name": "custom:write", "Value": p.other }]);
            vec![
                call(
                    "AdminUpdateUserAttributes",
                    json!({ "UserPoolId": p.user_pool, "Username": p.another_user, "UserAttributes": claim }),
                ),
                call("ListUsers", json!({ "UserPoolId": p.user_pool })),
                call(
                    "AdminSetUserPassword",
                    json!({ "UserPoolId": p.user_pool, "Username": p.another_user, "Password": "Aa1!aaaaaaaaaaaa", "Permanent": true }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "logs",
        "read the workers' logs",
        NO,
        Admin,
        |p| {
            let group = format!("/aws/lambda/{}", p.functions[0]);
            let arn = format!("arn:aws:logs:{}:{}:log-group:{group}:*", p.region, p.account);
            vec![json_call(
                "logs",
                "Logs_20140328.FilterLogEvents",
                "logs:FilterLogEvents",
                &arn,
                json!({ "logGroupName": group }),
            )]
        },
        RootMay,
    ),
    row(
        "anything-else",
        "parameters, secrets, machines, stacks, metrics",
        NO,
        Admin,
        |_| {
            vec![
                json_call("ssm", "AmazonSSM.DescribeParameters", "ssm:DescribeParameters", &anything("ssm"), json!({})),
                json_call(
                    "secretsmanager",
                    "secretsmanager.ListSecrets",
                    "secretsmanager:ListSecrets",
                    &anything("secretsmanager"),
                    json!({}),
                ),
                form_call("ec2", "2016-11-15", ("DescribeInstances", "ec2:DescribeInstances"), &anything("ec2"), &[]),
                form_call(
                    "cloudformation",
                    "2010-05-15",
                    ("ListStacks", "cloudformation:ListStacks"),
                    &anything("cloudformation"),
                    &[],
                ),
                json_call("events", "AWSEvents.ListRules", "events:ListRules", &anything("events"), json!({})),
            ]
        },
        RootMay,
    ),
];

fn identity(p: &Place, name: &str, body: serde_json::Value) -> Call {
    let arn = format!("arn:aws:cognito-identity:{}:{}:identitypool/{}", p.region, p.account, p.identity_pool);
    json_call("cognito-identity", &format!("AWSCognitoIdentityService.{name}"), &format!("cognito-identity:{name}"), &arn, body)
}
