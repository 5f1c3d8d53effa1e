import assert from "node:assert/strict";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { it, type TestContext } from "node:test";
import { YAML } from "zx";
import { readConfig, settingsTable } from "../lib/command/config.ts";
import { type Block, type Command, commandsOf, pages, readBlocks, readSpans } from "./support/pages.ts";
import { openRegistry } from "./support/registry.ts";
import { runInShop } from "./support/shop.ts";
import { newAuthority } from "./support/tls.ts";

// Every command and every block on the pages is run, or is parsed by the code that would read it. If somebody adds one that
// no test covers, a test here fails, names it, and says what is needed.

const { scripts } = JSON.parse(await readFile("package.json", "utf8")) as { scripts: Record<string, string> };
const features = (await readdir("features")).map((file) => readFile(`features/${file}`, "utf8"));
const scenarios = (await Promise.all(features)).join("\n");
const manifests = (await readdir("deploy", { recursive: true })).filter((file) => file.endsWith(".yaml"));

const program = /^(?:npx tsx figwasp\.ts|node figwasp\.ts|kubectl figwasp|figwasp)(?: +|$)/;

function argumentsOf(command: string): string[] {
  return command
    .replace(program, "")
    .split(/ +/)
    .filter((word) => word !== "");
}

// These commands verify a release, whose files exist only outside this repository.
const ofRelease = /^(?:version=|cosign |gh |sha256sum |docker buildx imagetools )/;

/** Throws Error if no test would find a mistake in the command. */
async function check({ text: line, page, section }: Command): Promise<void> {
  if (section === "Verify a release" && ofRelease.test(line)) return;
  for (const part of line.split(/ +(?:&&|\|) +/)) {
    const text = part.replace(/^(?:\w+=\S* +)+/, "");
    const step = `the commands of "${page}" under "${section}"`;
    if (program.test(text)) readConfig(argumentsOf(text), {});
    else if (text.startsWith("npm ")) await checkScript(text);
    else assert(scenarios.includes(step), `nothing runs it: a scenario is needed with a step that runs ${step}`);
  }
}

async function checkScript(text: string): Promise<void> {
  const [, script = ""] = /^npm (?:run )?([\w-]+)/.exec(text) ?? [];
  assert(script === "ci" || script in scripts, `package.json has no script ${JSON.stringify(script)}`);
  const [, file, line] = /(features\/\S+):(\d+)$/.exec(text) ?? [];
  if (file === undefined) return;
  assert.match((await readFile(file, "utf8")).split("\n")[Number(line) - 1] ?? "", /Scenario:/);
}

/** What the figwasp command in the block before this one prints, with short digests. */
async function outputOf(before: Block | undefined): Promise<string[]> {
  const commands = before?.language === "sh" ? commandsOf(before) : [];
  const command = commands.map(({ text }) => text).findLast((text) => program.test(text));
  assert(
    command,
    "a block without a language is an output: the block before it has to hold the figwasp that prints it",
  );
  const lines = await runInShop(argumentsOf(command));
  return lines.map((line) => line.replaceAll(/(sha256:\w{4})\w{60}/g, "$1…"));
}

async function rewrite({ page, line, lines }: Block, fresh: string[]): Promise<void> {
  const all = (await readFile(page, "utf8")).split("\n");
  all.splice(line - 1, lines.length, ...fresh);
  await writeFile(page, all.join("\n"));
}

for (const page of pages) {
  const blocks = await readBlocks(page);

  // From the end of the page, since rewriting an output moves the lines below it.
  for (const [at, block] of [...blocks.entries()].toReversed()) {
    const { language, lines, line } = block;
    switch (language) {
      case "sh":
        for (const command of commandsOf(block)) {
          it(`${page}:${command.line} shows a command that is run: ${command.text}`, () => check(command));
        }
        break;
      case "":
        it(`${page}:${line} shows what figwasp prints, with the words as they stand in the code`, async () => {
          const fresh = await outputOf(blocks[at - 1]);
          if (process.env["UPDATE"]) await rewrite(block, fresh);
          else assert.deepEqual(lines, fresh, "npm run docs writes it anew");
        });
        break;
      case "yaml":
        it(`${page}:${line} shows YAML`, () => {
          const mistakes = YAML.parseAllDocuments(lines.join("\n")).flatMap(({ errors }) => errors);
          assert.deepEqual(mistakes, []);
        });
        break;
      case "toml":
        it(`${page}:${line} shows a hosts.toml that is understood`, (t) => checkHosts(t, lines.join("\n")));
        break;
      case "mermaid": // test/house.test.ts holds the drawings to the code
        break;
      default:
        it(`${page}:${line} shows what is run`, () => assert.fail(`nothing here checks a block of ${language}`));
    }
  }
}

async function checkHosts(t: TestContext, hostsToml: string): Promise<void> {
  const { cert, key } = await newAuthority("a CA");
  const files = { "hosts.toml": hostsToml, "ca.crt": cert, "client.cert": cert, "client.key": key };
  const folder = Object.entries(files).map(([name, text]) => [`r.example/${name}`, text]);
  const registry = await openRegistry(t, { files: Object.fromEntries(folder) as Record<string, string> });
  assert.notDeepEqual(await registry.endpointsOf("r.example"), []);
}

for (const file of [...pages, ...manifests.map((name) => `deploy/${name}`)]) {
  it(`${file} names flags, variables and commands that are there`, async () => {
    const variables = (await readFile(file, "utf8")).match(/FIGWASP_\w+/g) ?? [];
    for (const name of variables) assert(settingsTable().includes(`\`${name}\``), `there is no variable ${name}`);
    for (const span of await readSpans(file)) {
      const { line, text } = span;
      const isFlag = /^--?[a-zA-Z]/.test(text);
      if (isFlag && file.startsWith("bench/")) continue; // the flags of the benchmark
      if (!isFlag && !/^(?:figwasp|npm|npx) | && /.test(text)) continue;
      await check({ ...span, text: isFlag ? `figwasp ${text}` : text }).catch((error: Error) => {
        // The text may name a flag without its value.
        if (!/argument missing/.test(error.message)) throw new Error(`${file}:${line}: ${text}: ${error.message}`);
      });
    }
  });
}
