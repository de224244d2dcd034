// Sends messages with @medplum/hl7 and prints code and control id of the acknowledgment that each promise resolves with.
//
// Its promise never resolves with a commit acknowledgment (CA): it waits for the application acknowledgment.
//
// Usage: medplum_client.mjs HOST PORT
import { Hl7Message } from "@medplum/core";
import { Hl7Client } from "@medplum/hl7";

const [host, port] = process.argv.slice(2);

const message = (id, enhanced) =>
  Hl7Message.parse(
    [
      `MSH|^~\\&|HIS|WEST|LAKE|HUB|20260102030405||ADT^A01|${id}|P|2.5.1|||${enhanced}`,
      "EVN|A01|20260102030405",
      "PID|1||4711^^^WEST^MR||DOE^JANE||19700101|F",
      "PV1|1|I",
    ].join("\r")
  );

const client = new Hl7Client({ host, port: Number(port) });
for (const [nth, enhanced] of ["|", "AL|AL", "NE|AL", "ER|AL"].entries()) {
  const ack = await client.sendAndWait(message(`MEDPLUM${nth}`, enhanced), { timeoutMs: 30_000 });
  const msa = ack.getSegment("MSA");
  console.log(msa.getField(1).toString(), msa.getField(2).toString());
}
await client.close();
process.exit(0);
