/**
 * The error of a user's own settings, which all rooms may throw.
 */

/** A flag, variable, file or kubeconfig that cannot be used. The message names it, what was found and what is needed.
 *  `main` answers it with exit code 2, so that a Job's podFailurePolicy can stop retrying. */
export class ConfigError extends Error {}
