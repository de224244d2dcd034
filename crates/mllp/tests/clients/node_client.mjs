// Sends messages with node-hl7-client and prints code and control id of each acknowledgment.
//
// Usage: node_client.mjs HOST PORT
import Client, { HL7_2_5 } from "node-hl7-client";

const [host, port] = process.argv.slice(2);

const message = (id) =>
  new HL7_2_5()
    .buildMSH({
      msh_3: "HIS",
      msh_4: "WEST",
      msh_5: "LAKE",
      msh_6: "HUB",
      msh_9_1: "ADT",
      msh_9_2: "A01",
      msh_10: id,
      msh_11_1: "P",
    })
    .buildEVN({ evn_1: "A01" })
    .buildPID({ pid_3: "4711", pid_5: "DOE^JANE", pid_7: new Date("1970-01-01"), pid_8: "F" })
    .toMessage();

const client = new Client({ host, version: "2.5" });
let answered;
const connection = client.createConnection({ port: Number(port) }, async (answer) => {
  const ack = answer.getMessage();
  console.log(ack.get("MSA.1").toString(), ack.get("MSA.2").toString());
  answered();
});
for (let nth = 0; nth < 3; nth++) {
  const answer = new Promise((resolve) => (answered = resolve));
  await connection.sendMessage(message(`NODE${nth}`));
  await answer;
}
await connection.close();
process.exit(0);
