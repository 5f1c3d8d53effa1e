/**
 * The errors that several rooms throw or tell apart.
 */

/** A flag, variable, file or kubeconfig that cannot be used. The message names it, what was found and what is needed.
 *  `main` answers it with exit code 2, so that a Job's podFailurePolicy can stop retrying. */
export class ConfigError extends Error {}

/** An answer of a registry or of the API server other than the one that was asked for. */
export class HttpError extends Error {
  readonly kind = "http";
  /** Undefined where no HTTP response came, for example because the connection broke off. */
  readonly status: number | undefined;
  /** How long the server asks to be left alone. */
  readonly retryAfterSeconds: number | undefined;
  /** How many times it was asked. */
  readonly tries: number;
  constructor(
    status: number | undefined,
    message: string,
    { retryAfterSeconds, tries = 1 }: { retryAfterSeconds?: number | undefined; tries?: number } = {},
  ) {
    super(message);
    this.status = status;
    this.retryAfterSeconds = retryAfterSeconds;
    this.tries = tries;
  }
}

/** Whether an error is an HttpError. Each file of the bundle has a class of its own, so `instanceof` does not tell. */
export function isHttpError(error: unknown): error is HttpError {
  return error instanceof Error && "kind" in error && error.kind === "http";
}

/** For `catch`: undefined if what was asked for is not there. */
export function ignoreIfGone(error: unknown): undefined {
  if (statusOf(error) !== 404) throw error;
}

/** The status of an HttpError; undefined for anything else that was thrown. */
export function statusOf(error: unknown): number | undefined {
  return isHttpError(error) ? error.status : undefined;
}
