import * as oauth from "oauth4webapi";
import { credentialsFor, type Credentials } from "../aws/identity.js";
import { asFailure, Failure } from "../failure.js";
import type { Audience, Settings } from "../settings.js";

/** The claims that the page shows. AWS and the API verify the token; the page does not decide by it. */
export interface Claims {
  email: string;
  /** The institute that the user may read; empty for none. */
  read: string;
  /** The institute that the user may submit for; empty for none. */
  write: string;
}

/** The state that survives the redirect to the sign-in pages, and is removed on the return. It never holds a token. */
interface Pending {
  audience: Audience["name"];
  state: string;
  verifier: string;
}

const PENDING = "sign-in";
/** A clock that is off by more makes signatures of AWS requests fail. */
const CLOCK_SECONDS = 240;
/** A token is renewed this long before its end. */
const EARLY_SECONDS = 60;
/** The same for credentials, which a long list of reads uses. */
const EARLY_CREDENTIALS_MS = 5 * 60 * 1000;

export const CALLBACK = "/callback";

function redirectUri(): string {
  return `${location.origin}${CALLBACK}`;
}

function server(audience: Audience): oauth.AuthorizationServer {
  return {
    issuer: audience.issuer,
    authorization_endpoint: `${audience.signInUrl}/oauth2/authorize`,
    token_endpoint: `${audience.signInUrl}/oauth2/token`,
    revocation_endpoint: `${audience.signInUrl}/oauth2/revoke`,
  };
}

function options(audience: Audience): { [oauth.allowInsecureRequests]: boolean } {
  // Only the local AWS has no TLS.
  return { [oauth.allowInsecureRequests]: /^http:\/\/(localhost|127\.0\.0\.1)[:/]/.test(`${audience.signInUrl}/`) };
}

/** Goes to the sign-in pages. */
export async function signIn(audience: Audience): Promise<void> {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const pending: Pending = { audience: audience.name, state, verifier };
  sessionStorage.setItem(PENDING, JSON.stringify(pending));
  const address = new URL(`${audience.signInUrl}/oauth2/authorize`);
  address.search = new URLSearchParams({
    client_id: audience.clientId,
    response_type: "code",
    redirect_uri: redirectUri(),
    scope: "openid email profile",
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: "S256",
  }).toString();
  location.assign(address);
}

/** Whether the browser has just come back from the sign-in pages. */
export function isComingBack(): boolean {
  return location.pathname === CALLBACK;
}

/** Exchanges the code in the address for tokens. The address loses the code first. */
export async function finishSignIn(settings: Settings): Promise<Session> {
  const address = new URL(location.href);
  history.replaceState(null, "", "/");
  const stored = sessionStorage.getItem(PENDING);
  sessionStorage.removeItem(PENDING);
  if (stored === null) throw new Failure("signIn", "state");
  const pending = JSON.parse(stored) as Pending;
  const audience = settings.audiences.find((it) => it.name === pending.audience);
  if (audience === undefined) throw new Failure("settings", "audiences");
  const client: oauth.Client = { client_id: audience.clientId };
  try {
    const parameters = oauth.validateAuthResponse(server(audience), client, address, pending.state);
    const answer = await oauth.authorizationCodeGrantRequest(
      server(audience), client, oauth.None(), parameters, redirectUri(), pending.verifier, options(audience),
    );
    // The clock is looked at below, with a sentence of its own.
    const tolerant = { ...client, [oauth.clockTolerance]: 10 * 365 * 86400 };
    const tokens = await oauth.processAuthorizationCodeResponse(server(audience), tolerant, answer, { requireIdToken: true });
    return new Session(settings, audience, tokens);
  } catch (error) {
    if (error instanceof Failure || error instanceof TypeError) throw asFailure(error);
    throw new Failure("signIn", error instanceof oauth.ResponseBodyError || error instanceof oauth.AuthorizationResponseError ? error.error : "");
  }
}

/** Somebody who has signed in. The tokens are in the memory of this object and nowhere else. */
export class Session {
  #tokens: oauth.TokenEndpointResponse;
  #idToken: string;
  #expires: number;
  #renewing: Promise<void> | undefined;
  #credentials: Promise<Credentials> | undefined;
  readonly claims: Claims;

  constructor(readonly settings: Settings, readonly audience: Audience, tokens: oauth.TokenEndpointResponse) {
    const claims = oauth.getValidatedIdTokenClaims(tokens);
    if (claims === undefined || tokens.id_token === undefined) throw new Failure("signIn", "id_token");
    if (Math.abs(claims.iat - Date.now() / 1000) > CLOCK_SECONDS) throw new Failure("clock", "iat");
    const text = (name: string): string => {
      const value = claims[name];
      return typeof value === "string" ? value : "";
    };
    this.#tokens = tokens;
    this.#idToken = tokens.id_token;
    this.#expires = claims.exp;
    this.claims = { email: text("email"), read: text("custom:read"), write: text("custom:write") };
  }

  get isStaff(): boolean {
    return this.audience.name === "lake-staff";
  }

  /** An ID token that does not end in the next minute. */
  async idToken(): Promise<string> {
    if (Date.now() / 1000 > this.#expires - EARLY_SECONDS) {
      this.#renewing ??= this.#renew().finally(() => {
        this.#renewing = undefined;
      });
      await this.#renewing;
    }
    return this.#idToken;
  }

  async #renew(): Promise<void> {
    const refresh = this.#tokens.refresh_token;
    if (refresh === undefined) throw new Failure("expired", "no refresh token");
    const [as, client] = [server(this.audience), { client_id: this.audience.clientId, [oauth.clockTolerance]: CLOCK_SECONDS }];
    try {
      const answer = await oauth.refreshTokenGrantRequest(as, client, oauth.None(), refresh, options(this.audience));
      const tokens = await oauth.processRefreshTokenResponse(as, client, answer);
      const claims = oauth.getValidatedIdTokenClaims(tokens);
      if (claims === undefined || tokens.id_token === undefined) throw new Failure("expired", "id_token");
      this.#tokens = { ...tokens, refresh_token: tokens.refresh_token ?? refresh };
      this.#idToken = tokens.id_token;
      this.#expires = claims.exp;
      this.#credentials = undefined;
    } catch (error) {
      if (error instanceof TypeError) throw new Failure("offline");
      throw new Failure("expired", error instanceof oauth.ResponseBodyError ? error.error : "");
    }
  }

  /** The AWS credentials that the token is exchanged for, of this very user. */
  async credentials(): Promise<Credentials> {
    const known = await this.#credentials?.catch(() => undefined);
    if (known !== undefined && known.expires - EARLY_CREDENTIALS_MS > Date.now()) return known;
    const token = await this.idToken();
    this.#credentials = credentialsFor(this.settings, this.audience, token);
    return this.#credentials;
  }

  /** Forgets credentials that AWS no longer takes, so that the next call exchanges the token again. */
  forgetCredentials(): void {
    this.#credentials = undefined;
  }

  /** Revokes the refresh token and leaves for the sign-out page, which ends the sign-in pages' own session. */
  async signOut(): Promise<void> {
    const refresh = this.#tokens.refresh_token;
    if (refresh !== undefined) {
      const client = { client_id: this.audience.clientId };
      // Without an answer the tokens are forgotten all the same.
      await oauth.revocationRequest(server(this.audience), client, oauth.None(), refresh, options(this.audience)).catch(() => undefined);
    }
    const address = new URL(`${this.audience.signInUrl}/logout`);
    address.search = new URLSearchParams({ client_id: this.audience.clientId, logout_uri: `${location.origin}/` }).toString();
    location.assign(address);
  }
}
