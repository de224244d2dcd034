import { again } from "../again.js";
import { Failure, ofAws } from "../failure.js";
import type { Audience, Settings } from "../settings.js";

/** AWS credentials of a signed-in user. */
export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken: string;
  /** Milliseconds since 1970. */
  expires: number;
}

/** The endpoint of an AWS service. */
export function endpoint(settings: Settings, service: string): string {
  return settings.endpointUrl === "" ? `https://${service}.${settings.region}.amazonaws.com` : settings.endpointUrl;
}

interface GivenCredentials {
  AccessKeyId: string;
  SecretKey: string;
  SessionToken: string;
  Expiration: number;
}

async function call<Answer>(settings: Settings, operation: string, input: object): Promise<Answer> {
  const request: RequestInit = {
    method: "POST",
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": `AWSCognitoIdentityService.${operation}` },
    body: JSON.stringify(input),
    cache: "no-store",
  };
  const answer = await again(() => fetch(`${endpoint(settings, "cognito-identity")}/`, request));
  const body: unknown = await answer.json().catch(() => ({}));
  if (answer.ok) return body as Answer;
  const { __type: code = "", message = "" } = body as { __type?: string; message?: string };
  if (/ResourceNotFound/.test(code)) throw new Failure("settings", "identityPoolId");
  // "Token is not from a supported provider of this identity pool": the pool is another deployment's.
  if (/NotAuthorized/.test(code) && /supported provider|invalid issuer/i.test(message)) throw new Failure("settings", "identityPoolId");
  throw ofAws(answer.status, code, message);
}

/** Exchanges an ID token (GetId, GetCredentialsForIdentity). Neither call is signed. */
export async function credentialsFor(settings: Settings, audience: Audience, token: string): Promise<Credentials> {
  const logins = { Logins: { [audience.issuer.replace(/^https:\/\//, "")]: token } };
  const { IdentityId } = await call<{ IdentityId: string }>(settings, "GetId", { IdentityPoolId: settings.identityPoolId, ...logins });
  const given = await call<{ Credentials: GivenCredentials }>(settings, "GetCredentialsForIdentity", { IdentityId, ...logins });
  const { AccessKeyId, SecretKey, SessionToken, Expiration } = given.Credentials;
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretKey, sessionToken: SessionToken, expires: Expiration * 1000 };
}
