import assert from "node:assert/strict";
import { access, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { format, resolveConfig } from "prettier";
import { settingsTable } from "../lib/config.ts";

const docs = (await readdir("docs")).filter((file) => file.endsWith(".md")).map((file) => `docs/${file}`);
const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", ...docs];

/** The links of a page to files of this repository. */
async function linksOf(page: string): Promise<{ text: string; file: string }[]> {
  const links = [...(await readFile(page, "utf8")).matchAll(/\[([^\]]+)\]\((?!https?:)([^)#]+)\)/g)];
  return links.map(([, text = "", target = ""]) => ({
    text: text.replaceAll("`", ""),
    file: join(dirname(page), target),
  }));
}

for (const page of pages) {
  describe(page, () => {
    it("links to files that are there", async () => {
      for (const { file } of await linksOf(page)) await access(file);
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
