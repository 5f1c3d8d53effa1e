/**
 * Removes the secrets of a run from what it prints and writes: a registry may repeat in an error what it was sent.
 */
import type { Credential } from "../credentials/docker-config.ts";
import { printable } from "../text.ts";

/** The secrets that a run has come to know. */
export class Redaction {
  /** In every spelling that a message may have. */
  readonly #secrets = new Set<string>();

  /** Adds a secret. One of fewer than four characters is not removed from texts, since it would be found in words that
   *  are no secret. */
  addSecret(secret: string | undefined): void {
    for (const spelling of spellingsOf(secret ?? "")) {
      if (spelling.length >= minSecretLength) this.#secrets.add(spelling);
    }
  }

  /** Adds the password, the base64 of user name and password, and the identity token. The user name is no secret. */
  addCredential({ basic, identityToken }: Credential): void {
    const login = Buffer.from(basic, "base64").toString("utf8");
    const password = login.slice(login.indexOf(":") + 1);
    for (const secret of [basic, basic.replace(/=+$/, ""), password, identityToken]) this.addSecret(secret);
  }

  /** The text with `[removed]` in place of each secret, also in place of the start of one at which the text was cut,
   *  which is marked by `…`. */
  redact(text: string): string {
    // The longest first, since one secret may be the start of another.
    const secrets = [...this.#secrets].toSorted((a, b) => b.length - a.length);
    const redacted = secrets.reduce((rest, secret) => rest.replaceAll(secret, "[removed]"), text);
    const parts = redacted.split("…");
    const wasCut = (index: number) => index < parts.length - 1;
    return parts.map((part, index) => (wasCut(index) ? withoutCutSecret(part, secrets) : part)).join("…");
  }
}

const minSecretLength = 4;

// As a server may repeat it in JSON, in a URL, in a form or with its UTF-8 read as Latin-1; each as messages show it,
// on one line, too.
function spellingsOf(secret: string): string[] {
  const text = secret.toWellFormed();
  const inForm = new URLSearchParams({ "": text }).toString().slice(1);
  const asLatin1 = Buffer.from(text).toString("latin1");
  const spellings = [secret, JSON.stringify(text).slice(1, -1), encodeURIComponent(text), inForm, asLatin1];
  return spellings.flatMap((spelling) => [spelling, printable(spelling).trim()]);
}

// Removes the start of a secret from the end of a text.
function withoutCutSecret(text: string, secrets: string[]): string {
  const lengths = secrets.map((secret) => {
    let length = Math.min(secret.length - 1, text.length);
    while (length >= minSecretLength && !text.endsWith(secret.slice(0, length))) length--;
    return length;
  });
  const length = Math.max(0, ...lengths);
  return length < minSecretLength ? text : `${text.slice(0, -length)}[removed]`;
}
