/**
 * The credentials of a workload's pods: the Secrets that they name as imagePullSecrets, and a docker config that is
 * mounted into figwasp itself.
 */
import { shareCall } from "../calls.ts";
import { statusOf } from "../errors.ts";
import { messageOf, quote } from "../text.ts";
import { type Login, parseDockerConfig, quoteKey, readDockerConfig } from "./docker-config.ts";
import type { Keyring, LoginSource } from "./keyring.ts";
import { isForAnybody } from "./keys.ts";

/** A Secret, as the cluster gives it. */
export interface PullSecret {
  type: string;
  isOlderForm: boolean;
  config: Buffer | undefined;
}

export interface PullSecretsOptions {
  /** Reads a Secret. Undefined if it does not exist. Throws an HttpError of status 403 if the Role does not grant
   *  it. */
  readSecret: (namespace: string, name: string) => Promise<PullSecret | undefined>;
  /** The docker config that is mounted; undefined if there is none. */
  mounted: LoginSource | undefined;
  /** Takes something that a person should read beside the verdicts. */
  note: (text: string) => void;
}

/** Reads each Secret once in a run, and only if a pod that counts names it. */
export class PullSecrets {
  readonly #readSecret: PullSecretsOptions["readSecret"];
  readonly #mounted: LoginSource | undefined;
  readonly #note: PullSecretsOptions["note"];
  /** By `namespace/name`. */
  readonly #sources = new Map<string, Promise<LoginSource>>();

  constructor({ readSecret, mounted, note }: PullSecretsOptions) {
    this.#readSecret = readSecret;
    this.#mounted = mounted;
    this.#note = note;
  }

  /** The keyring of pods that name these Secrets of their namespace. One that is missing, forbidden or of another
   *  type is noted and ignored, as the kubelet does. Throws Error for one that is broken or whose read failed. */
  async keyringOf(namespace: string, names: Iterable<string>): Promise<Keyring> {
    const reads = Array.from(new Set(names), (name) => {
      return shareCall(this.#sources, `${namespace}/${name}`, () => this.#read(namespace, name));
    });
    const secrets = await Promise.all(reads);
    const mounted = this.#mounted ? [this.#mounted] : [];
    const sources = [secrets, mounted].map((group) => group.flatMap(({ logins }) => logins));
    return { sources, whyNoneUsable: [...secrets, ...mounted].map(({ whyNoneUsable }) => whyNoneUsable) };
  }

  // What the kubelet ignores is noted and ignored here too.
  async #read(namespace: string, name: string): Promise<LoginSource> {
    const source = `Secret ${namespace}/${name}`;
    try {
      const secret = await this.#readSecret(namespace, name);
      if (!secret) return this.#ignore(`${source} is not there`);
      const { type, config, isOlderForm } = secret;
      if (!config) return this.#ignore(`${source} of type ${quote(type)} is no docker config`);
      const logins = parseDockerConfig(config, isOlderForm);
      for (const { key } of logins.filter((login) => isForAnybody(login.key))) {
        this.#note(`key ${quoteKey(key)} of ${source} gives its credential to registries of whatever owner`);
      }
      return toSource(source, logins);
    } catch (cause) {
      if (statusOf(cause) === 403) return this.#ignore(`${source} may not be read: ${messageOf(cause)}`);
      throw new Error(`Cannot use ${source}: ${messageOf(cause)}`, { cause });
    }
  }

  // Beside a mounted docker config this is no news: a Role without rights on Secrets is one way to install figwasp.
  #ignore(reason: string): LoginSource {
    if (!this.#mounted) this.#note(reason);
    return { logins: [], whyNoneUsable: reason };
  }
}

/** Reads a docker config from a folder, as Docker names it or as a Secret is mounted. Throws ConfigError. */
export async function readMountedConfig(folder: string): Promise<LoginSource> {
  const { file, logins } = await readDockerConfig(folder);
  return toSource(file, logins);
}

function toSource(source: string, logins: Login[]): LoginSource {
  const whyNoneUsable = `no key of ${source} that holds a credential matches`;
  return { logins: logins.map((login) => ({ ...login, source })), whyNoneUsable };
}
