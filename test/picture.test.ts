import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { drawPicture } from "../fixtures/picture.ts";

describe("docs/terminal.svg", () => {
  it("shows output and colours as they stand in the code", async () => {
    const fresh = await drawPicture();
    assert.match(fresh, />outdated<.*>restarted</s);
    if (process.env["UPDATE"]) await writeFile("docs/terminal.svg", fresh);
    else assert.equal(await readFile("docs/terminal.svg", "utf8"), fresh, "npm run docs draws it anew");
  });
});
