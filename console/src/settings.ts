import { Failure } from "./failure.js";

/** A group of people with a user pool of their own. */
export interface Audience {
  name: "institutes" | "lake-staff";
  /** The `iss` of the pool's tokens, `https://…`. */
  issuer: string;
  /** The app client, the `aud` of the ID token. */
  clientId: string;
  /** Where the sign-in pages are; `/oauth2/authorize` is appended. */
  signInUrl: string;
}

/** Which deployment the page shows: `settings.json` beside it. Nothing in it is secret. */
export interface Settings {
  stack: string;
  region: string;
  /** The local AWS. Empty where AWS itself is used. */
  endpointUrl: string;
  apiUrl: string;
  bucket: string;
  table: string;
  identityPoolId: string;
  /** Whether the catalog has the index by control id. */
  hasSearchIndexes: boolean;
  audiences: Audience[];
  /** Institutes that staff are offered by name; any other can be typed. */
  institutes: string[];
}

const TEXTS = ["stack", "region", "endpointUrl", "apiUrl", "bucket", "table", "identityPoolId"] as const;

function record(value: unknown): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Failure("settings", "settings.json");
  return value as Record<string, unknown>;
}

function text(of: Record<string, unknown>, name: string): string {
  const value = of[name];
  if (typeof value !== "string" || (value === "" && name !== "endpointUrl")) throw new Failure("settings", name);
  return value;
}

function audience(value: unknown): Audience {
  const given = record(value);
  const name = text(given, "name");
  if (name !== "institutes" && name !== "lake-staff") throw new Failure("settings", "audiences");
  return { name, issuer: text(given, "issuer"), clientId: text(given, "clientId"), signInUrl: text(given, "signInUrl") };
}

/** Reads and checks the settings. */
export function readSettings(value: unknown): Settings {
  const given = record(value);
  const [stack, region, endpointUrl, apiUrl, bucket, table, identityPoolId] = TEXTS.map((name) => text(given, name)) as [
    string, string, string, string, string, string, string,
  ];
  const audiences = Array.isArray(given["audiences"]) ? given["audiences"].map(audience) : [];
  if (audiences.length === 0) throw new Failure("settings", "audiences");
  const institutes = Array.isArray(given["institutes"]) ? given["institutes"].filter((it) => typeof it === "string") : [];
  const hasSearchIndexes = given["hasSearchIndexes"] === true;
  return { stack, region, endpointUrl, apiUrl, bucket, table, identityPoolId, hasSearchIndexes, audiences, institutes };
}

/** Fetches `settings.json`. */
export async function loadSettings(): Promise<Settings> {
  const answer = await fetch("/settings.json", { cache: "no-store" });
  if (!answer.ok) throw new Failure("settings", "settings.json");
  let value: unknown;
  try {
    value = await answer.json();
  } catch {
    throw new Failure("settings", "settings.json");
  }
  return readSettings(value);
}
