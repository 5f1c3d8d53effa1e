import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, cp, readdir, readFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { readBlocks } from "./support/pages.ts";
import { folderOf } from "./support/registry.ts";

// docs/architecture.md draws which room may import which; this holds the drawing, the linter's table and the code together.

const [rooms, way] = (await readBlocks("docs/architecture.md")).filter(({ language }) => language === "mermaid");

/** A file of each node of the drawing, by the node's name; of `base` each of the four. */
const files: Record<string, string[]> = {
  figwasp: ["figwasp.ts"],
  command: ["lib/command/config.ts"],
  verdicts: ["lib/verdicts.ts"],
  kubernetes: ["lib/kubernetes/objects.ts"],
  registry: ["lib/registry/manifest.ts"],
  credentials: ["lib/credentials/keys.ts"],
  http: ["lib/http/fetch.ts"],
  base: ["calls", "errors", "text", "version"].map((name) => `lib/${name}.ts`),
};

/** `registry http`, for each arrow that is drawn, and for what its text adds. */
function drawnArrows(): Set<string> {
  const lines = rooms?.lines ?? [];
  const drawn = lines.flatMap((line) => {
    const [, from = "", to = ""] = /^\s*(\w+) --> ([\w &]+)$/.exec(line) ?? [];
    return to.split(" & ").map((name) => `${from} ${name}`);
  });
  const everybody = Object.keys(files).filter((name) => name !== "base");
  return new Set(
    [...drawn, ...everybody.map((name) => `${name} base`), "figwasp verdicts"].filter((arrow) => arrow !== " "),
  );
}

/** The node of the drawing that a file belongs to. */
function nodeOf(file: string): string {
  const [, room] = /^lib\/(\w+)\//.exec(file) ?? [];
  return room ?? (file.startsWith("lib/") ? (file === "lib/verdicts.ts" ? "verdicts" : "base") : "figwasp");
}

/** Lints these files as the project is linted, without types. Resolves to the files that a rule complains about. */
async function lint(t: TestContext, texts: Record<string, string>, rule: string): Promise<string[]> {
  const folder = await folderOf(t, texts);
  await cp(".oxlintrc.json", join(folder, ".oxlintrc.json"));
  const program = join(process.cwd(), "node_modules/.bin/oxlint");
  const output = await new Promise<string>((resolve) => {
    execFile(program, ["--format=json"], { cwd: folder }, (_error, stdout) => resolve(stdout));
  });
  const { diagnostics } = JSON.parse(output) as { diagnostics: { code: string; filename: string }[] };
  return diagnostics.filter(({ code }) => code.includes(rule)).map(({ filename }) => filename);
}

describe("the rooms of docs/architecture.md", () => {
  it("are the rooms of the code, with no import that is not drawn", async () => {
    const all = (await readdir("lib", { recursive: true })).filter((file) => file.endsWith(".ts"));
    const sources = ["figwasp.ts", ...all.map((file) => `lib/${file}`)];
    assert.deepEqual(new Set(sources.map(nodeOf)), new Set(Object.keys(files)));
    const arrows = drawnArrows();
    const imports = sources.map(async (file) => {
      const text = await readFile(file, "utf8");
      const targets = Array.from(text.matchAll(/(?:from|import\() ?"(\.[^"]+)"/g), ([, to = ""]) =>
        join(dirname(file), to),
      );
      return targets.map((target) => `${nodeOf(file)} ${nodeOf(target)}`);
    });
    const found = new Set((await Promise.all(imports)).flat());
    const undrawn = [...found].filter((arrow) => !arrows.has(arrow) && arrow.split(" ")[0] !== arrow.split(" ")[1]);
    assert.deepEqual(undrawn, []);
  });

  it("are what npm run check allows, and nothing else", async (t) => {
    const arrows = drawnArrows();
    const pairs = Object.entries(files).flatMap(([from, [source = ""]]) => {
      return Object.entries(files).flatMap(([to, targets]) => targets.map((target) => ({ from, source, to, target })));
    });
    // Each importing file has a name of its own in its room, but for those that are rooms by themselves.
    for (const from of Object.keys(files)) {
      if (from === "figwasp") continue; // may import every room
      const texts: Record<string, string> = { "figwasp.ts": "export type T = 1;\n" };
      for (const targets of Object.values(files)) for (const file of targets) texts[file] ??= "export type T = 1;\n";
      const asked = pairs.filter((pair) => pair.from === from && pair.to !== from);
      const importers = asked.map(({ source, target }, index) => {
        const importer = from === "verdicts" || from === "base" ? source : `${dirname(source)}/importer-${index}.ts`;
        return { importer, target };
      });
      const complained: string[] = [];
      for (const { importer, target } of importers) {
        const path = relative(dirname(importer), target);
        const specifier = path.startsWith(".") ? path : `./${path}`;
        const text = `import type { T } from "${specifier}";\nexport type U = T;\n`;
        const broken = await lint(t, { ...texts, [importer]: text }, "no-restricted-imports");
        if (broken.length > 0) complained.push(target);
      }
      const forbidden = asked.filter(({ to }) => !arrows.has(`${from} ${to}`)).map(({ target }) => target);
      assert.deepEqual(complained, forbidden, `what ${from} may not import`);
    }
  });

  it("have no circle, and npm run check would find one, also of types alone", async (t) => {
    const circle = {
      "lib/http/a.ts": 'import type { B } from "./b.ts";\nexport type A = B | 1;\n',
      "lib/http/b.ts": 'import type { A } from "./a.ts";\nexport type B = A | 2;\n',
      "step-definitions/c.ts": 'import { d } from "./d.ts";\nexport const c = () => d;\n',
      "step-definitions/d.ts": 'import { c } from "./c.ts";\nexport const d = () => c;\n',
    };
    const complained = await lint(t, circle, "no-cycle");
    assert.deepEqual(new Set(complained), new Set(Object.keys(circle)));
  });
});

describe("the way of a run in docs/architecture.md", () => {
  it("names functions that are where it says", async () => {
    const labels = (way?.lines ?? []).flatMap((line) =>
      Array.from(line.matchAll(/\["([^"]+)"\]/g), ([, text = ""]) => text),
    );
    assert(labels.length > 10);
    for (const label of labels) {
      const [, file = "figwasp.ts"] = / · (\S+)$/.exec(label) ?? [];
      await access(file);
      const text = await readFile(file, "utf8");
      const imported = await readFile("figwasp.ts", "utf8");
      for (const [, name = ""] of label.matchAll(/(\w+)\(\)/g)) {
        const isThere = text.includes(`function ${name}(`) || (file === "figwasp.ts" && imported.includes(`${name}(`));
        assert(isThere, `${file} has no ${name}()`);
      }
    }
  });
});
