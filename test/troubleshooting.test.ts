import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { readConfig } from "../lib/command/config.ts";
import { textsOf } from "./support/texts.ts";

// The page and the code must agree: each quote in a heading is a text in the source, and each message in the source is
// quoted on the page. A message is any text of four words or more, so a new one needs only an entry.

const rooms = await readdir("lib", { recursive: true });
const files = ["figwasp.ts", ...rooms.filter((file) => file.endsWith(".ts")).map((file) => `lib/${file}`)];
const texts = (await Promise.all(files.map(textsOf))).flat();
const page = await readFile("docs/troubleshooting.md", "utf8");

function quotesIn(markdown: string): string[] {
  return [...markdown.matchAll(/`([^`\n]+)`/g)].map(([, quote = ""]) => quote);
}

// Excludes paths, addresses and flags.
function wordsOf(text: string): string[] {
  return text.split(" ").filter((word) => /^["'(]?[a-z][a-z'-]*["'),.:;]*$/i.test(word));
}

const help = readConfig(["--help"], {});
const helpText = help.kind === "text" ? help.text : "";

// Messages that need no entry.
const others = new Set([
  "… of … workloads looked at", // the progress of a run
  // Never printed: each comparison has a reason, `main` asks a registry whenever it judges, and `rbac` prints no verdict.
  "the registry was not asked",
  "no registry was asked",
]);

function isMessage(text: string): boolean {
  const isHelp = text.split("…").every((part) => helpText.includes(part));
  return wordsOf(text).length >= 4 && !isHelp && !others.has(text);
}

describe("docs/troubleshooting.md", () => {
  it("quotes what the code can say", () => {
    // A heading, and the sentence `Also: …` if one follows it.
    const headings = page.match(/^(?:### .*|Also:(?:[^`.]|`[^`]*`)*)/gm) ?? [];
    const unknown = headings.flatMap(quotesIn).filter((quote) => !texts.some((text) => text.includes(quote)));
    assert.deepEqual(unknown, []);
  });

  it("has an entry for all that the code can say", () => {
    const telling = quotesIn(page).filter((quote) => wordsOf(quote).length >= 3);
    const missing = texts.filter((text) => isMessage(text) && !telling.some((quote) => text.includes(quote)));
    assert.deepEqual([...new Set(missing)], []);
  });
});
