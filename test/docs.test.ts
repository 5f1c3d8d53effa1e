import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";

const pages = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/how-it-decides.md"];

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
