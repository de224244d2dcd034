import type { Session } from "../auth/session.js";
import { signed } from "./signed.js";

/** The bytes of an object of the lake, in the version that the catalog names; those of a compressed one (`.gz`) decompressed. */
export async function getObject(session: Session, key: string, version: string): Promise<Uint8Array> {
  const { endpointUrl, bucket, region } = session.settings;
  const path = key.split("/").map(encodeURIComponent).join("/");
  const place = endpointUrl === "" ? `https://${bucket}.s3.${region}.amazonaws.com/${path}` : `${endpointUrl}/${bucket}/${path}`;
  const address = new URL(place);
  if (version !== "") address.searchParams.set("versionId", version);
  const answer = await signed(session, "s3", address.href, {});
  const isCompressed = key.endsWith(".gz") && answer.body !== null;
  const content = isCompressed ? new Response(answer.body.pipeThrough(new DecompressionStream("gzip"))) : answer;
  return new Uint8Array(await content.arrayBuffer());
}
