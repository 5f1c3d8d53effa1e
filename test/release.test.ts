import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Manifest, parseManifest } from "../lib/registry/manifest.ts";
import { findRelease, type Release } from "../lib/registry/release.ts";
import { callIt, digestOf } from "./support/registry.ts";

const parse = (value: unknown): Manifest => parseManifest(digestOf("it"), Buffer.from(JSON.stringify(value)));

/** Finds the release of an image with these annotations; without `config`, reading the config fails the test. */
function find(annotations: unknown, config?: string): Promise<Release | undefined> {
  const image = parse({ config: { digest: digestOf("config") }, annotations });
  const read = async () => (config === undefined ? assert.fail("the config was asked for") : Buffer.from(config));
  return findRelease(digestOf("it"), { manifest: async () => image, config: read });
}

describe("findRelease()", () => {
  // Each row: the value that the owner set, and what figwasp reports of it.
  const words: [string, unknown, string | undefined][] = [
    ["a version", "1.4.2", "1.4.2"],
    ["blanks around it", " 1.4.2\n", "1.4.2"],
    ["what acts on a terminal, and a line end", "1\u001b[2J\n2\u202e", "1 [2J 2"],
    ["64 characters", "v".repeat(64), "v".repeat(64)],
    ["65 characters", "v".repeat(65), `${"v".repeat(64)}…`],
    ["half a character at the end", `${"v".repeat(63)}😀`, `${"v".repeat(63)}\ufffd…`],
    ["nothing that can be printed", "\u0000\u200b", undefined],
    ["an empty text", "", undefined],
    ["a number", 4, undefined],
    ["null", null, undefined],
    ["a list", ["1"], undefined],
  ];
  for (const [what, word, version] of words) {
    it(`reads ${what}, in an annotation and in a label`, async () => {
      const keyed = { ...callIt("", "3f2c1ab"), "org.opencontainers.image.version": word };
      const release = { ...(version && { version }), revision: "3f2c1ab" };
      assert.deepEqual(await find(keyed), release);
      assert.deepEqual(await find(undefined, JSON.stringify({ config: { Labels: keyed } })), release);
    });
  }

  for (const annotations of [undefined, null, {}, [], "x", { "org.opencontainers.image.title": "app" }, callIt("")]) {
    it(`passes over the annotations ${JSON.stringify(annotations)}`, async () => {
      const config = JSON.stringify({ config: { Labels: callIt("1") } });
      assert.deepEqual(await find(annotations, config), { version: "1" });
    });
  }

  for (const config of ["", "<html>", "null", "[]", "{}", `{"config":1}`, `{"config":{"Labels":null}}`]) {
    it(`finds none in the config ${JSON.stringify(config)}`, async () =>
      assert.equal(await find({}, config), undefined));
  }
});
