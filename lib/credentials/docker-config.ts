/**
 * Reads a docker config: the value of a pull Secret, or the file that `docker login` writes. Which of its entries are
 * for an image is decided in keys.ts.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { isObject, messageOf, parseObject, quote, withoutQuery } from "../text.ts";

/** What lets somebody in at a registry or its token server. */
interface CredentialValue {
  /** The base64 of `username:password`, as `Authorization: Basic` has it. */
  basic: string;
  /** What `docker login` received in place of a password from a token server that speaks OAuth 2. Never empty. */
  identityToken?: string;
}

/** A credential, and where it was found. */
export interface Credential extends CredentialValue {
  /** For messages: `key "ghcr.io" of Secret shop/pull`. */
  source: string;
}

/** A text that is the same for two credentials only if they are the same, wherever they were found. It is secret. The
 *  identity token is part of it, since registries give one user name to everybody who has one. */
export function identityOf({ basic, identityToken = "" }: Credential): string {
  return `${basic} ${identityToken}`;
}

/** One entry of a docker config. */
export interface Login {
  /** `ghcr.io`, `https://index.docker.io/v1/`, `*.example.org/team`. */
  key: string;
  /** Undefined where the entry is empty, as Docker leaves it when a credential helper holds the password. */
  credential: CredentialValue | undefined;
}

/** The logins of a docker config: `{"auths": {"ghcr.io": {"auth": "…"}}}`, or without `auths` around them in the older
 *  form, `.dockercfg`. As the kubelet reads it: one malformed entry makes the whole config invalid, and identity tokens
 *  are ignored. Throws Error, whose message holds no value of the config. */
export function parseDockerConfig(text: Buffer, isOlderForm = false): Login[] {
  return parseEntries(text, isOlderForm).map((entry) => parseLogin(entry, ""));
}

interface Entry {
  key: string;
  fields: Record<string, unknown>;
}

function parseEntries(text: Buffer, isOlderForm: boolean): Entry[] {
  const config = parseObject(text);
  if (!config) throw new Error("it is not a JSON object");
  const auths = isOlderForm ? config : (config["auths"] ?? {});
  if (!isObject(auths)) throw new Error(`its "auths" is not an object`);
  return Object.entries(auths).map(([key, value]) => {
    const fields = value ?? {};
    if (!isObject(fields)) throw new Error(`its entry ${quoteKey(key)} has no object`);
    return { key, fields };
  });
}

/** A key, quoted for a message, without what may be secret in it: the kubelet accepts a URL with user name, password
 *  and query. `https://me:secret@ghcr.io/a?b` → `"…@ghcr.io/a"`. */
export function quoteKey(key: string): string {
  const at = key.lastIndexOf("@");
  return quote(withoutQuery(at < 0 ? key : `…${key.slice(at)}`));
}

// A field that is null or missing counts as empty. A non-empty `auth` comes before `username` and `password`.
function parseLogin({ key, fields }: Entry, identityToken: string): Login {
  const [auth = "", username = "", password = ""] = ["auth", "username", "password"].map((name) => {
    const value = fields[name] ?? "";
    if (typeof value !== "string") throw malformed(key, "a value that is no text");
    return value;
  });
  const identity = identityToken === "" ? {} : { identityToken };
  if (auth !== "") return { key, credential: { basic: parseAuth(key, auth), ...identity } };

  const isEmpty = username === "" && password === "" && identityToken === "";
  if (isEmpty) return { key, credential: undefined };
  return { key, credential: { basic: Buffer.from(`${username}:${password}`).toString("base64"), ...identity } };
}

// The standard base64 of `username:password`. Go, in which the kubelet is written, ignores line ends in base64 and
// accepts it with and without padding.
function parseAuth(key: string, auth: string): string {
  const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;
  if (!base64.test(auth.replace(/[\r\n]/g, ""))) {
    const isUrlSafeForm = /[-_]/.test(auth);
    throw malformed(key, `an "auth" that is not base64${isUrlSafeForm ? ", but its URL-safe form" : ""}`);
  }
  const bytes = Buffer.from(auth, "base64");
  if (!bytes.includes(":")) throw malformed(key, `an "auth" that is not the base64 of username:password`);
  return bytes.toString("base64");
}

function malformed(key: string, what: string): Error {
  return new Error(`its entry ${quoteKey(key)} has ${what}`);
}

/** The logins of a docker config in a folder, and the file that holds them: `config.json`, as Docker names it, or
 *  `.dockerconfigjson`, as a mounted Secret does. Identity tokens count. Throws ConfigError. */
export async function readDockerConfig(folder: string): Promise<{ file: string; logins: Login[] }> {
  try {
    const files = readdirSync(folder);
    const file = ["config.json", ".dockerconfigjson"].find((name) => files.includes(name));
    if (file === undefined) throw new Error("it holds neither config.json nor .dockerconfigjson");
    const entries = parseEntries(readFileSync(join(folder, file)), false);
    const logins = entries.map((entry) => {
      const identityToken = entry.fields["identitytoken"];
      return parseLogin(entry, typeof identityToken === "string" ? identityToken : "");
    });
    return { file: join(folder, file), logins };
  } catch (cause) {
    throw new ConfigError(`Cannot use DOCKER_CONFIG ${quote(folder)}: ${messageOf(cause)}`, { cause });
  }
}
