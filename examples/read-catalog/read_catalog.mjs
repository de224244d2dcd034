// The newest messages of one's own institute, read from the catalog without the API.
// Arguments: identity pool id, user pool provider, table, institute. The ID token comes on standard input.

import { readFileSync } from "node:fs";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { fromCognitoIdentityPool } from "@aws-sdk/credential-providers";
import { DynamoDBDocumentClient, QueryCommand } from "@aws-sdk/lib-dynamodb";

const [identityPoolId, provider, table, institute] = process.argv.slice(2);
const token = readFileSync(0, "utf8").trim();

// The ID token becomes AWS credentials of this very user, for an hour.
const credentials = fromCognitoIdentityPool({ identityPoolId, logins: { [provider]: token } });
const catalog = DynamoDBDocumentClient.from(new DynamoDBClient({ credentials }));

// IAM lets the user read the four partitions of their own institute. Another one is AccessDeniedException.
const found = [];
for (let n = 0; n < 4; n++) {
  const page = await catalog.send(
    new QueryCommand({
      TableName: table,
      IndexName: "by-arrival",
      KeyConditionExpression: "arrival_shard = :partition",
      ExpressionAttributeValues: { ":partition": `${institute}#${n}` },
      ScanIndexForward: false,
      Limit: 25,
    }),
  );
  found.push(...page.Items);
}
found.sort((a, b) => (a.received_at < b.received_at ? 1 : -1));
for (const item of found.slice(0, 25)) {
  console.log(item.received_at, item.message_id, item.summary?.messageType ?? "-", item.listed);
}
