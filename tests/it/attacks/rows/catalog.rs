//! The catalog.

use domain::arrivals;

use super::*;

/// The twin: an institute's reader may query each of its partitions.
const OWN_ARRIVALS: Twin = Own(Reader, |p| arrivals::shards(&p.own).iter().map(|it| query_arrivals(p, it)).collect());

pub(in super::super) const CATALOG: &[Row] = &[
    row("item-others", "GetItem of another's entry", NO, Admin, |p| vec![get_item(p, &p.other)], OWN_ITEM),
    row(
        "item-some-attributes",
        "one attribute of it, by a projection",
        NO,
        Admin,
        |p| vec![table(p, "GetItem", &[&p.other], json!({ "Key": key(p, &p.other), "ProjectionExpression": "received_at" }))],
        Own(Admin, |p| {
            vec![table(p, "GetItem", &[&p.own], json!({ "Key": key(p, &p.own), "ProjectionExpression": "received_at" }))]
        }),
    ),
    row(
        "item-by-writer",
        "GetItem of an own entry by a user who may only write",
        NO,
        Writer,
        |p| vec![get_item(p, &p.own)],
        Own(Reader, |p| vec![get_item(p, &p.own)]),
    ),
    row("item-by-nobody", "the same by a user without claims", NO, Nobody, |p| vec![get_item(p, &p.own)], OWN_ITEM),
    row("item-empty-claim", "the same by a user with empty claims", NO, Blank, |p| vec![get_item(p, &p.own)], OWN_ITEM),
    row(
        "query-others",
        "Query another's entries, or count them",
        NO,
        Admin,
        |p| {
            vec![
                query(p, "#s = :other", &[&p.other], false, json!({})),
                query(p, "#s = :other", &[&p.other], false, json!({ "Select": "COUNT" })),
            ]
        },
        Own(Admin, |p| {
            vec![
                query(p, "#s = :own", &[&p.own], false, json!({})),
                query(p, "#s = :own", &[&p.own], false, json!({ "Select": "COUNT" })),
            ]
        }),
    ),
    row(
        "query-index-others",
        "Query them in the index",
        NO,
        Admin,
        |p| vec![query(p, "#s = :other", &[&p.other], true, json!({}))],
        Own(Admin, |p| vec![query(p, "#s = :own", &[&p.own], true, json!({}))]),
    ),
    row(
        "query-arrivals-others",
        "Query each of another's partitions of the index by arrival",
        NO,
        Admin,
        |p| arrivals::shards(&p.other).iter().map(|it| query_arrivals(p, it)).collect(),
        OWN_ARRIVALS,
    ),
    row(
        "query-arrivals-look-alikes",
        "Query partitions of it that only look like one's own: without a number, with another, of a name that begins with one's own, of none",
        NO,
        Admin,
        |p| {
            let own = &p.own;
            let names = [own.clone(), format!("{own}#"), format!("{own}#4"), format!("{own}#00"), format!("{own}#0#0")];
            let others = [format!("{own}2#0"), format!("{own}.#0"), "#0".to_owned(), "*#0".to_owned(), format!("{own}#?")];
            names.iter().chain(&others).map(|it| query_arrivals(p, it)).collect()
        },
        OWN_ARRIVALS,
    ),
    row(
        "query-arrivals-empty-claim",
        "Query the partition of an empty name, and one's own, by a user with empty claims",
        NO,
        Blank,
        |p| vec![query_arrivals(p, "#0"), query_arrivals(p, &arrivals::shards(&p.own)[0])],
        OWN_ARRIVALS,
    ),
    row(
        "query-arrivals-by-writer",
        "Query one's own partitions of it by a user who may only write",
        NO,
        Writer,
        |p| arrivals::shards(&p.own).iter().map(|it| query_arrivals(p, it)).collect(),
        OWN_ARRIVALS,
    ),
    row(
        "identity-read",
        "read an identity id that store remembers, one's own or all of them",
        NO,
        Admin,
        |p| {
            vec![
                table(p, "GetItem", &[::catalog::IDENTITIES], json!({ "Key": key(p, ::catalog::IDENTITIES) })),
                table(
                    p,
                    "Query",
                    &[::catalog::IDENTITIES],
                    json!({ "KeyConditionExpression": "#s = :s",
                    "ExpressionAttributeNames": { "#s": "source" }, "ExpressionAttributeValues": { ":s": { "S": ::catalog::IDENTITIES } } }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "identity-poison",
        "have store take another's identity for one's own: put, change or delete a remembered identity id",
        NO,
        Admin,
        |p| {
            let id = json!({ ":id": { "S": "eu-central-1:00000000-0000-0000-0000-000000000000" } });
            let mut item = key(p, ::catalog::IDENTITIES);
            item["identity_id"] = id[":id"].clone();
            let update = json!({ "Key": key(p, ::catalog::IDENTITIES), "UpdateExpression": "SET identity_id = :id",
                "ExpressionAttributeValues": id });
            vec![
                table(p, "PutItem", &[::catalog::IDENTITIES], json!({ "Item": item })),
                table(p, "UpdateItem", &[::catalog::IDENTITIES], update),
                table(p, "DeleteItem", &[::catalog::IDENTITIES], json!({ "Key": key(p, ::catalog::IDENTITIES) })),
            ]
        },
        RootMay,
    ),
    row(
        "query-control-ids-others",
        "look a control id of another's up in the index",
        NO,
        Admin,
        |p| vec![query_control_ids(p, &p.other)],
        Own(Admin, |p| vec![query_control_ids(p, &p.own)]),
    ),
    row(
        "query-control-ids-by-writer",
        "look one of one's own up by a user who may only write",
        NO,
        Writer,
        |p| vec![query_control_ids(p, &p.own)],
        Own(Reader, |p| vec![query_control_ids(p, &p.own)]),
    ),
    row(
        "query-filter",
        "Query another's with a filter on one's own",
        NO,
        Admin,
        |p| vec![query(p, "#s = :other", &[&p.other], true, json!({ "FilterExpression": "#s = :own" }))],
        Own(Admin, |p| {
            vec![query(p, "#s = :own", &[&p.own], true, json!({ "FilterExpression": "attribute_exists(message_id)" }))]
        }),
    ),
    row(
        "query-begins-with",
        "Query all partitions that begin with a text, or one's own or another's",
        NO,
        Admin,
        |p| {
            vec![
                query(p, "begins_with(#s, :own)", &[], false, json!({})),
                query(p, "#s = :own OR #s = :other", &[&p.own, &p.other], false, json!({})),
            ]
        },
        Own(Admin, |p| vec![query(p, "#s = :own", &[&p.own], false, json!({}))]),
    ),
    row(
        "query-by-writer",
        "Query one's own by a user who may only write, in table and index",
        NO,
        Writer,
        |p| vec![query(p, "#s = :own", &[&p.own], false, json!({})), query(p, "#s = :own", &[&p.own], true, json!({}))],
        Own(Reader, |p| {
            vec![query(p, "#s = :own", &[&p.own], false, json!({})), query(p, "#s = :own", &[&p.own], true, json!({}))]
        }),
    ),
    row(
        "scan",
        "Scan table or index, all or with a filter on one's own",
        NO,
        Admin,
        |p| {
            let filter = json!({ "FilterExpression": "#s = :own", "ExpressionAttributeNames": { "#s": "source" },
            "ExpressionAttributeValues": { ":own": { "S": p.own } } });
            vec![
                table(p, "Scan", &[], json!({})),
                table(p, "Scan", &[], filter),
                table(p, "Scan", &[], json!({ "IndexName": arrivals::INDEX })),
            ]
        },
        RootMay,
    ),
    row(
        "batch-get",
        "BatchGetItem of another's entry, of one's own, of both",
        NO,
        Admin,
        |p| {
            let get = |sources: &[&str]| {
                let keys: Vec<_> = sources.iter().map(|source| key(p, source)).collect();
                tables(p, "BatchGetItem", "BatchGetItem", sources, &json!({ "RequestItems": { &p.table: { "Keys": keys } } }))
            };
            vec![get(&[&p.other]), get(&[&p.own]), get(&[&p.own, &p.other])]
        },
        RootMay,
    ),
    row(
        "transact-get",
        "TransactGetItems of another's entry, of one's own and another's",
        NO,
        Admin,
        |p| vec![transact_get(p, &[&p.other]), transact_get(p, &[&p.own, &p.other])],
        Own(Admin, |p| vec![transact_get(p, &[&p.own])]),
    ),
    row(
        "partiql",
        "read, write, delete with PartiQL, one's own and another's",
        NO,
        Admin,
        |p| {
            let run = |statement: &str, action: &str, source: &str| {
                let body = json!({ "Statement": statement, "Parameters": [{ "S": source }, { "S": p.message_id }] });
                tables(p, "ExecuteStatement", action, &[source], &body)
            };
            let select = format!("SELECT * FROM \"{}\" WHERE source = ? AND message_id = ?", p.table);
            let insert = format!("INSERT INTO \"{}\" VALUE {{'source': ?, 'message_id': ?}}", p.table);
            let delete = format!("DELETE FROM \"{}\" WHERE source = ? AND message_id = ?", p.table);
            let batch =
                json!({ "Statements": [{ "Statement": select, "Parameters": [{ "S": p.other }, { "S": p.message_id }] }] });
            vec![
                run(&select, "PartiQLSelect", &p.own),
                run(&select, "PartiQLSelect", &p.other),
                run(&insert, "PartiQLInsert", &p.own),
                run(&delete, "PartiQLDelete", &p.other),
                tables(p, "BatchExecuteStatement", "PartiQLSelect", &[&p.other], &batch),
            ]
        },
        RootMay,
    ),
    row(
        "forge-entry",
        "put, update, delete an entry, even one's own",
        NO,
        Admin,
        |p| {
            let entry = |source: &str| {
                let mut entry = key(p, source);
                entry["status"] = json!({ "S": "stored" });
                entry
            };
            let update = json!({ "Key": key(p, &p.own), "UpdateExpression": "SET x = :x", "ExpressionAttributeValues": { ":x": { "S": "x" } } });
            vec![
                table(p, "PutItem", &[&p.own], json!({ "Item": entry(&p.own) })),
                table(p, "UpdateItem", &[&p.own], update),
                table(p, "DeleteItem", &[&p.own], json!({ "Key": key(p, &p.own) })),
                table(p, "PutItem", &[&p.other], json!({ "Item": entry(&p.other) })),
                table(p, "DeleteItem", &[&p.other], json!({ "Key": key(p, &p.other) })),
                tables(
                    p,
                    "BatchWriteItem",
                    "BatchWriteItem",
                    &[&p.own],
                    &json!({ "RequestItems": { &p.table: [{ "PutRequest": { "Item": entry(&p.own) } }] } }),
                ),
                tables(
                    p,
                    "TransactWriteItems",
                    "PutItem",
                    &[&p.own],
                    &json!({ "TransactItems": [{ "Put": { "TableName": p.table, "Item": entry(&p.own) } }] }),
                ),
            ]
        },
        RootMay,
    ),
    row(
        "condition-check",
        "learn of another's entry by a condition in a transaction",
        NO,
        Admin,
        |p| {
            let check =
                json!({ "TableName": p.table, "Key": key(p, &p.other), "ConditionExpression": "attribute_exists(message_id)" });
            vec![tables(
                p,
                "TransactWriteItems",
                "ConditionCheckItem",
                &[&p.other],
                &json!({ "TransactItems": [{ "ConditionCheck": check }] }),
            )]
        },
        RootMay,
    ),
    row(
        "table-settings",
        "describe, export, back up, change, delete the table; list tables",
        NO,
        Admin,
        |p| {
            let export = json!({ "TableArn": p.table_arn(), "S3Bucket": "somebodys" });
            vec![
                table(p, "DescribeTable", &[], json!({})),
                tables(p, "ExportTableToPointInTime", "ExportTableToPointInTime", &[], &export),
                table(p, "CreateBackup", &[], json!({ "BackupName": "backup" })),
                table(p, "UpdateTable", &[], json!({ "BillingMode": "PAY_PER_REQUEST" })),
                table(
                    p,
                    "UpdateTimeToLive",
                    &[],
                    json!({ "TimeToLiveSpecification": { "AttributeName": "received_at", "Enabled": true } }),
                ),
                tables(p, "ListTables", "ListTables", &[], &json!({})),
            ]
        },
        RootMay,
    ),
];
