/** The kinds of failure, distinguished by what a person can do next. */
export type FailureKind =
  /** The settings are missing, incomplete, or of another deployment. */
  | "settings"
  /** No answer: no network, or the service is not there. */
  | "offline"
  /** The sign-in has ended and cannot be renewed. */
  | "expired"
  /** The sign-in was not completed. */
  | "signIn"
  /** The user is not allowed to do this. */
  | "forbidden"
  /** This machine's clock is wrong. */
  | "clock"
  /** Too many requests. */
  | "throttled"
  /** The text is not an identifier of a patient, or the deployment has no index by patient. */
  | "search"
  /** It does not exist, or not for this user. */
  | "missing"
  /** The service failed. */
  | "service";

/** An error with a sentence for people. It never quotes a request, a token or an answer. */
export class Failure extends Error {
  constructor(
    readonly kind: FailureKind,
    /** A code of the service, `AccessDeniedException`, or empty. */
    readonly code = "",
  ) {
    super(code === "" ? kind : `${kind}: ${code}`);
  }
}

/** Any error as a failure. `fetch` throws a TypeError where there was no answer. */
export function asFailure(error: unknown): Failure {
  if (error instanceof Failure) return error;
  if (error instanceof TypeError) return new Failure("offline");
  return new Failure("service");
}

/** The kind of failure for an AWS error code. */
export function ofAws(status: number, code: string, detail: string): Failure {
  const name = code.split("#").pop() ?? "";
  if (/RequestTimeTooSkewed|RequestExpired/.test(name)) return new Failure("clock", name);
  if (/InvalidSignature|SignatureDoesNotMatch/.test(name) && /expired|not yet current/i.test(detail)) return new Failure("clock", name);
  if (/ExpiredToken|UnrecognizedClient|InvalidClientTokenId|InvalidAccessKeyId|NotAuthorized/.test(name)) return new Failure("expired", name);
  if (/AccessDenied|Forbidden/.test(name)) return new Failure("forbidden", name);
  if (/Throttl|ProvisionedThroughput|TooManyRequests|SlowDown/.test(name)) return new Failure("throttled", name);
  if (/ResourceNotFound|NoSuchBucket/.test(name)) return new Failure("settings", name);
  if (/NoSuchKey|NoSuchVersion|NotFound/.test(name)) return new Failure("missing", name);
  if (status === 401) return new Failure("expired", name);
  if (status === 403) return new Failure("forbidden", name);
  if (status === 404) return new Failure("missing", name);
  if (status === 429) return new Failure("throttled", name);
  return new Failure("service", name);
}
