import { randomBytes } from "node:crypto";
import { hash } from "bcryptjs";

/** A user name and password that exist in one scenario only, so that they can be looked for everywhere. */
export interface Credential {
  username: string;
  password: string;
  /** The part of the password that stays as it is when the whole is URL-encoded or written as JSON. */
  core: string;
}

/** With characters that an encoding gets wrong: a name as of Harbor's robots, a password that holds a colon. */
export function createCredential(): Credential {
  const core = randomBytes(8).toString("hex");
  return { username: "robot$figwasp", password: `p@ss-${core}ü:`, core };
}

/** As a pull secret holds it, under a key such as `registry.example` or `*.example`. */
export function dockerConfig(key: string, { username, password }: Credential): string {
  const auth = Buffer.from(`${username}:${password}`).toString("base64");
  return JSON.stringify({ auths: { [key]: { username, password, auth } } });
}

export async function htpasswd({ username, password }: Credential): Promise<string> {
  return `${username}:${await hash(password, 5)}\n`;
}

/** Whether the text holds the password: as it is, URL-encoded, or as a part of anything in base64. */
export function betrays(text: string, { core }: Credential): boolean {
  return [core, ...base64Forms(core)].some((form) => text.includes(form));
}

// Base64 turns three bytes into four characters, so that a word in the middle has one of three forms, by where it
// begins. The characters at both ends belong to its neighbours too, and are left out.
function base64Forms(word: string): string[] {
  return [0, 1, 2].map((before) => {
    const encoded = Buffer.from("\0".repeat(before) + word).toString("base64url");
    const whole = Math.floor(((before + word.length) * 8) / 6);
    return encoded.slice(Math.ceil((before * 8) / 6), whole);
  });
}
