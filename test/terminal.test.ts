import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { stripVTControlCharacters } from "node:util";
import type { ContainerVerdict, Finding } from "../lib/verdicts.ts";
import { drawTable, progressLine, type Terminal } from "../lib/command/terminal.ts";
import { verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

const digest = { old: digestOf("old").slice(7, 19), new: digestOf("new").slice(7, 19) };
const image = "ghcr.io/acme/api:1.2";
const plain: Terminal = { columns: 120, hasColors: false };

function container(name: string, verdict: ContainerVerdict, more = {}) {
  return { name, image, verdict, podCount: 2, ...more };
}

const restarted: Finding = {
  subject: { kind: "deployment", namespace: "shop", name: "api" },
  verdict: { kind: "restarted", outdated: { app: digestOf("new") } },
  containers: [
    container("app", verdicts.outdated, {
      credential: 'key "ghcr.io" of Secret shop/pull',
      release: { version: "1.3" },
    }),
    container("proxy", verdicts.skipped, { image: `envoy@${digestOf("envoy")}` }),
  ],
};
const current: Finding = {
  subject: { kind: "statefulset", namespace: "shop", name: "db" },
  verdict: { kind: "current" },
  containers: [container("postgres", verdicts.current)],
};
const failed: Finding = {
  subject: { kind: "daemonset", namespace: "ops", name: "log" },
  verdict: { kind: "failed", error: new Error("no answer for agent") },
  containers: [container("agent", verdicts.failed)],
};

function draw(findings: Finding[], terminal = plain, more: { notes?: string[]; isDryRun?: boolean } = {}): string[] {
  return drawTable({ findings, notes: [], isDryRun: false, exitCode: 0, ...more }, terminal);
}

describe("drawTable()", () => {
  it("draws a row for each container, then a line for each workload, the notes and the counts", () => {
    assert.deepEqual(draw([restarted, current], plain, { notes: ["a note"] }), [
      "NAMESPACE  WORKLOAD        CONTAINER  VERDICT   DIGEST                       IMAGE",
      `shop       deployment/api  app        outdated  ${digest.old} → ${digest.new}  ghcr.io/acme/api:1.2`,
      '                           └ in 1 of 2 pods, version 1.3, with key "ghcr.io" of Secret shop/pull',
      `shop       deployment/api  proxy      skipped   -                            envoy@sha256:${digestOf("envoy").slice(7, 19)}`,
      "                           └ pinned by digest",
      `shop       statefulset/db  postgres   current   ${digest.new}                 ghcr.io/acme/api:1.2`,
      "",
      "deployment shop/api: restarted, outdated: app",
      "statefulset shop/db: current, nothing to do",
      "a note",
      "2 workloads: 1 restarted, 1 current",
    ]);
  });

  it("puts the images under the rows where the terminal is too narrow for a column of them", () => {
    assert.deepEqual(draw([restarted, current], { columns: 80, hasColors: false }).slice(0, 6), [
      "NAMESPACE  WORKLOAD        CONTAINER  VERDICT   DIGEST",
      `shop       deployment/api  app        outdated  ${digest.old} → ${digest.new}`,
      "                           └ ghcr.io/acme/api:1.2, in 1 of 2 pods, version 1.3,",
      '                             with key "ghcr.io" of Secret shop/pull',
      "shop       deployment/api  proxy      skipped   -",
      `                           └ envoy@sha256:${digestOf("envoy").slice(7, 19)}, pinned by digest`,
    ]);
  });

  it("names the image that was asked about beside the template's, and shortens both", () => {
    const pinned = (word: string) => `ghcr.io/${word}@${digestOf(word)}`;
    const finding = {
      ...current,
      containers: [container("app", verdicts.current, { image: pinned("a"), asked: pinned("b") })],
    };
    const short = (word: string) => `ghcr.io/${word}@sha256:${digestOf(word).slice(7, 19)}`;
    const [, row = ""] = draw([finding], { ...plain, columns: 200 });
    assert(row.endsWith(`  ${short("a")}, asked about ${short("b")}`), row);
  });

  it("draws no table where no container was looked at", () => {
    const paused: Finding = { ...current, verdict: { kind: "skipped", reason: "paused" }, containers: [] };
    assert.deepEqual(draw([paused]), ["statefulset shop/db: skipped, paused"]);
    assert.deepEqual(draw([]), ["0 workloads: none found"]);
  });

  it("says of a dry run what would be done", () => {
    assert.equal(
      draw([restarted], plain, { isDryRun: true }).at(-1),
      "deployment shop/api: would be restarted, outdated: app",
    );
  });

  it("breaks a long reason between words, under its row", () => {
    const reason =
      "Cannot resolve it: HEAD https://ghcr.io/v2/acme/api/manifests/1.2 returned 401 Unauthorized, and so on";
    const finding = { ...failed, containers: [container("agent", { kind: "unknown", reason })] };
    const lines = draw([finding], { columns: 60, hasColors: false });
    const indent = "NAMESPACE  daemonset/log  ".length;
    const told = lines.filter((line) => line.startsWith(" ".repeat(indent)));
    assert(told.length > 2, lines.join("\n"));
    assert(told.every((line) => line.length <= indent + "└ https://ghcr.io/v2/acme/api/manifests/1.2".length));
    assert.equal(told.map((line) => line.trim().replace(/^└ /, "")).join(" "), `${image}, ${reason}`);
    // A column is at least as wide as its longest word, however narrow the terminal.
    assert(told.some((line) => line.includes("https://ghcr.io/v2/acme/api/manifests/1.2")));
  });

  it("has the same text with colours as without", () => {
    const all = [restarted, current, failed];
    const coloured = draw(all, { ...plain, hasColors: true });
    assert.notDeepEqual(coloured, draw(all));
    assert.deepEqual(coloured.map(stripVTControlCharacters), draw(all));
    const verdictOf = (word: string) => coloured.join("\n").split(word)[0]?.endsWith("\u001b[31m");
    assert(verdictOf("failed"), "a failure is red");
  });

  it("lets nothing of somebody else's act on the terminal", () => {
    const odd = { ...current, containers: [container("app", verdicts.current, { image: "a\u001b[31m\nb" })] };
    const lines = draw([odd]);
    assert(!lines.join("\n").includes("\u001b"));
    assert.equal(lines.length, 4);
  });
});

describe("progressLine()", () => {
  it("keeps to one line of the terminal", () => {
    assert.equal(progressLine("1 of 2 workloads looked at", 80), "1 of 2 workloads looked at …");
    assert.equal(progressLine("deployment shop/api: rolling out", 20), "deployment shop/a …");
  });
});
