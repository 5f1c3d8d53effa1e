import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { oneLine, quote } from "../lib/transport.ts";

const csi = "\u009B"; // begins a terminal's commands, as ESC [ does
const overridden = "\u202E"; // turns the direction of what follows

describe("oneLine()", () => {
  const rows: [string, string][] = [
    ["no such image", "no such image"],
    [" a\r\nb\u2028c ", "a b c"],
    [`a${csi}2J${overridden}b`, "a 2J b"],
    ["x".repeat(201), `${"x".repeat(200)}…`],
  ];
  for (const [text, line] of rows) {
    it(`makes ${JSON.stringify(line.slice(0, 40))}`, () => assert.equal(oneLine(text), line));
  }
});

describe("quote()", () => {
  const rows: [string, string][] = [
    ["nginx:1.27", '"nginx:1.27"'],
    ['say "hi"\n', '"say \\"hi\\"\\n"'],
    [`a${csi}2J`, '"a\\u{9b}2J"'],
    [`a${overridden}\u2028\u0085\u{E0041}`, '"a\\u{202e}\\u{2028}\\u{85}\\u{e0041}"'],
    ["x".repeat(201), `"${"x".repeat(200)}…"`],
  ];
  for (const [text, quoted] of rows) {
    it(`shows ${quoted.slice(0, 40)}`, () => assert.equal(quote(text), quoted));
  }
});
