import { AwsClient } from "aws4fetch";
import type { Session } from "../auth/session.js";
import { asFailure, ofAws } from "../failure.js";

interface Request {
  method?: "GET" | "POST";
  headers?: Record<string, string>;
  body?: string;
}

/** The error code and text of an answer: JSON has them as `__type` and `message`, S3's XML as elements. */
function errorOf(text: string): [string, string] {
  try {
    const { __type = "", message = "", Message = "" } = JSON.parse(text) as { __type?: string; message?: string; Message?: string };
    return [__type, message || Message];
  } catch {
    const element = (name: string): string => new RegExp(`<${name}>([^<]*)</${name}>`).exec(text)?.[1] ?? "";
    return [element("Code"), element("Message")];
  }
}

/** Sends a request that is signed with the user's own credentials. If AWS no longer accepts them, sends it once more with fresh ones. */
export async function signed(session: Session, service: string, address: string, request: Request): Promise<Response> {
  for (let again = true; ; again = false) {
    const { accessKeyId, secretAccessKey, sessionToken } = await session.credentials();
    const client = new AwsClient({ accessKeyId, secretAccessKey, sessionToken, service, region: session.settings.region, retries: 3 });
    const init: RequestInit = { method: request.method ?? "GET", headers: request.headers ?? {}, cache: "no-store" };
    if (request.body !== undefined) init.body = request.body;
    const answer = await client.fetch(address, init);
    if (answer.ok) return answer;
    const [code, detail] = errorOf(await answer.text());
    const failure = ofAws(answer.status, code, detail);
    if (failure.kind !== "expired" || !again) throw asFailure(failure);
    session.forgetCredentials();
  }
}
