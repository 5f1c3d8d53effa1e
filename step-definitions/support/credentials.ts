import { randomBytes } from "node:crypto";
import { hash } from "bcryptjs";

/** A user name and password that exist in one scenario only, so that they can be looked for everywhere. */
export interface Credential {
  username: string;
  password: string;
  /** The part of the password that stays as it is when the whole is URL-encoded or written as JSON. */
  core: string;
}

/** Makes a credential with characters that a wrong encoding would spoil: a name like those of Harbor's robots, and a
 *  password with a colon and an umlaut. */
export function createCredential(): Credential {
  const core = randomBytes(8).toString("hex");
  return { username: "robot$figwasp", password: `p@ss-${core}ü:`, core };
}

/** Writes the credential as a pull secret holds it, under a key such as `registry.example` or `*.example`. */
export function dockerConfig(key: string, { username, password }: Credential): string {
  const auth = Buffer.from(`${username}:${password}`).toString("base64");
  return JSON.stringify({ auths: { [key]: { username, password, auth } } });
}

export async function htpasswd({ username, password }: Credential): Promise<string> {
  return `${username}:${await hash(password, 5)}\n`;
}

/** Tells whether the text contains the password: as it is, URL-encoded, or within anything in base64. */
export function betrays(text: string, { core }: Credential): boolean {
  return [core, ...base64Forms(core)].some((form) => text.includes(form));
}

// Base64 turns three bytes into four characters. A word in the middle of a text therefore has one of three forms, which
// depends on the place where it begins. The characters at its ends depend on its neighbours too, and are left out.
function base64Forms(word: string): string[] {
  return [0, 1, 2].map((before) => {
    const encoded = Buffer.from("\0".repeat(before) + word).toString("base64url");
    const whole = Math.floor(((before + word.length) * 8) / 6);
    return encoded.slice(Math.ceil((before * 8) / 6), whole);
  });
}
