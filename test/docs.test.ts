import assert from "node:assert/strict";
import { access, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { format, resolveConfig } from "prettier";
import { settingsTable } from "../lib/command/config.ts";
import { pages } from "./support/pages.ts";

/** The links of a page to files in this repository and to headings in them. */
async function linksOf(page: string): Promise<{ text: string; file: string; anchor: string | undefined }[]> {
  const links = [...(await readFile(page, "utf8")).matchAll(/\[([^\]]+)\]\((?!https?:)([^)#]*)(?:#([^)]+))?\)/g)];
  return links.map(([, text = "", target = "", anchor]) => ({
    text: text.replaceAll("`", ""),
    file: target === "" ? page : join(dirname(page), target),
    anchor,
  }));
}

/** The anchors of a page's headings, as GitHub generates them. */
async function anchorsOf(page: string): Promise<string[]> {
  const headings = [...(await readFile(page, "utf8")).matchAll(/^#+ (.*)$/gm)];
  return headings.map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\w -]/g, "")
      .replaceAll(" ", "-"),
  );
}

for (const page of pages) {
  describe(page, () => {
    it("links to files and headings that are there", async () => {
      for (const { file, anchor } of await linksOf(page)) {
        await access(file);
        if (anchor !== undefined) assert((await anchorsOf(file)).includes(anchor), `${file} has no heading #${anchor}`);
      }
    });
  });
}

describe("docs/configuration.md", () => {
  it("has every flag and variable, as they stand in the code", async () => {
    const page = await readFile("docs/configuration.md", "utf8");
    const [, before = "", after = ""] = /^(.*<!-- table -->\n).*?(<!-- end of table -->.*)$/s.exec(page) ?? [];
    const options = (await resolveConfig("docs/configuration.md")) ?? {};
    const fresh = await format(`${before}\n${settingsTable()}\n\n${after}`, { ...options, parser: "markdown" });
    if (process.env["UPDATE"]) await writeFile("docs/configuration.md", fresh);
    else assert.equal(page, fresh, "npm run docs writes it anew");
  });
});

for (const page of ["docs/security.md", "docs/registries.md"]) {
  describe(page, () => {
    it("names tests as they are called", async () => {
      const links = (await linksOf(page)).filter(({ file }) => /^(?:test|features|step-)/.test(file));
      assert(links.length > 20);
      for (const { text, file } of links) {
        assert((await readFile(file, "utf8")).includes(text), `${file} has no ${JSON.stringify(text)}`);
      }
    });
  });
}

describe("docs/how-it-decides.md", () => {
  it("names scenarios as they are called", async () => {
    const links = (await linksOf("docs/how-it-decides.md")).filter(({ file }) => file.endsWith(".feature"));
    assert(links.length > 20);
    for (const { text, file } of links) {
      const titles = [...(await readFile(file, "utf8")).matchAll(/Scenario: (.*)/g)].map(([, title]) => title);
      assert(titles.includes(text), `${file} has no scenario "${text}"`);
    }
  });
});
