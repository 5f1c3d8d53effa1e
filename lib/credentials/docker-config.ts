/**
 * What a docker config holds: the value of a pull Secret, or the file that `docker login` writes. Which of it is for an
 * image, is decided in keys.ts.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../errors.ts";
import { isObject, messageOf, parseObject, quote, withoutQuery } from "../text.ts";

/** What a docker config holds for a registry. */
export interface Credential {
  /** The base64 of `username:password`, as `Authorization: Basic` has it. */
  basic: string;
  /** What `docker login` was given in place of the password, by token servers that speak OAuth 2. */
  identityToken?: string;
  /** Where it comes from, for messages: `key "ghcr.io" of Secret shop/pull`. */
  source: string;
}

/** What tells two credentials apart. Registries give one user name to all that log in by an identity token. */
export function identityOf({ basic, identityToken = "" }: Credential): string {
  return `${basic} ${identityToken}`;
}

/** What a docker config holds under one key; without a credential where a helper would have to be run for it. */
export interface Login {
  key: string;
  credential: Omit<Credential, "source"> | undefined;
}

/** The logins of a docker config: `{"auths": {"ghcr.io": {"auth": "…"}}}`, or without `auths` around it for the older
 *  `.dockercfg`. Throws Error, which never shows what the config holds. As the kubelet reads it, one wrong entry makes
 *  the whole wrong, and identity tokens are nothing. */
export function parseDockerConfig(text: Buffer, isOlderForm = false): Login[] {
  return parseEntries(text, isOlderForm).map(({ key, entry }) => {
    return { key, credential: parseLogin(key, { ...entry, identitytoken: undefined }) };
  });
}

function parseEntries(text: Buffer, isOlderForm: boolean): { key: string; entry: Record<string, unknown> }[] {
  const config = parseObject(text);
  if (!config) throw new Error("it is not a JSON object");
  const auths = isOlderForm ? config : (config["auths"] ?? {});
  if (!isObject(auths)) throw new Error(`its "auths" is not an object`);
  return Object.entries(auths).map(([key, value]) => {
    const entry = value ?? {};
    if (!isObject(entry)) throw new Error(`its entry ${quoteKey(key)} has no object`);
    return { key, entry };
  });
}

/** A key for a message. It may be a URL with a user, a password and a query, which the kubelet passes over. */
export function quoteKey(key: string): string {
  const at = key.lastIndexOf("@");
  return quote(withoutQuery(at < 0 ? key : `…${key.slice(at)}`));
}

function parseLogin(key: string, entry: Record<string, unknown>): Login["credential"] {
  const malformed = (found: string) => new Error(`its entry ${quoteKey(key)} has ${found}`);
  const { auth, username, password, identitytoken: identityToken } = entry;
  const texts = [auth, username, password].map((value) => value ?? "");
  if (!texts.every((value) => typeof value === "string")) throw malformed("a value that is no text");
  const [encoded = "", name = "", word = ""] = texts;
  const identity = typeof identityToken === "string" && identityToken !== "" ? { identityToken } : {};
  if (encoded === "") {
    const isEmpty = name === "" && word === "" && !("identityToken" in identity);
    return isEmpty ? undefined : { basic: Buffer.from(`${name}:${word}`).toString("base64"), ...identity };
  }
  // Go passes over line ends, and takes the base64 with its padding or without.
  const base64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;
  if (!base64.test(encoded.replace(/[\r\n]/g, ""))) {
    throw malformed(`an "auth" that is not base64${/[-_]/.test(encoded) ? ", but its URL-safe form" : ""}`);
  }
  const bytes = Buffer.from(encoded, "base64");
  if (!bytes.includes(":")) throw malformed(`an "auth" that is not the base64 of username:password`);
  return { basic: bytes.toString("base64"), ...identity };
}

/** The logins of a folder that holds a docker config, as Docker names it or a Secret that is mounted, and the file that
 *  they come from. Throws ConfigError. */
export async function readDockerConfig(folder: string): Promise<{ file: string; logins: Login[] }> {
  try {
    const files = readdirSync(folder);
    const file = ["config.json", ".dockerconfigjson"].find((name) => files.includes(name));
    if (file === undefined) throw new Error("it holds neither config.json nor .dockerconfigjson");
    const entries = parseEntries(readFileSync(join(folder, file)), false);
    const logins = entries.map(({ key, entry }) => ({ key, credential: parseLogin(key, entry) }));
    return { file: join(folder, file), logins };
  } catch (cause) {
    throw new ConfigError(`Cannot use DOCKER_CONFIG ${quote(folder)}: ${messageOf(cause)}`, { cause });
  }
}
