import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import type { ContainerVerdict, Finding, WorkloadVerdict } from "../lib/verdicts.ts";
import {
  closingLines,
  describeCrash,
  reportLines,
  terminationMessage,
  toDocument,
  toEvent,
} from "../lib/command/report.ts";
import { verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";
import { mistakesIn } from "./support/schema.ts";

const subject = { kind: "deployment", namespace: "shop", name: "api" } as const;
const image = "ghcr.io/acme/api:1.2";
const container = (verdict: ContainerVerdict) => ({ name: "app", image, verdict, podCount: 2 });
const report = (findings: Finding[], more: Partial<Parameters<typeof toDocument>[0]> = {}) => {
  return { findings, notes: [], isDryRun: false, exitCode: 0, ...more };
};

const noteOf = (word: string, attempt: number) => {
  return { image, wanted: digestOf(word), ran: [digestOf("old")], unclear: [], try: attempt };
};

const told: [string, WorkloadVerdict, Finding["containers"], RegExp[]][] = [
  [
    "a restart",
    { kind: "restarted", outdated: { app: digestOf("new") } },
    [container(verdicts.outdated)],
    [/container app .*: outdated, running sha256:\w+ in 1 of 2 pods, resolved sha256:/, /: restarted, outdated: app$/],
  ],
  [
    "what the owner calls the new image, which might say anything",
    { kind: "restarted", outdated: { app: digestOf("new") } },
    [
      {
        ...container(verdicts.outdated),
        release: { version: "1), restarted", revision: "3f2c1ab" },
        credential: 'key "ghcr.io" of Secret shop/pull',
      },
    ],
    [/, resolved sha256:\w+ \(version "1\), restarted", revision 3f2c1ab\), with key "ghcr.io"/, /: restarted/],
  ],
  ["nothing to do", { kind: "current" }, [container(verdicts.current)], [/: current, resolved/, /: current, nothing/]],
  [
    "another index",
    { kind: "current" },
    [container({ ...verdicts.current, isEquivalent: true })],
    [/: current, resolved .*, another index of the same image$/, /: current/],
  ],
  [
    "which credential it took",
    { kind: "current" },
    [{ ...container(verdicts.current), credential: 'key "ghcr.io" of Secret shop/pull' }],
    [/: current, resolved sha256:\w+, with key "ghcr.io" of Secret shop\/pull$/, /: current/],
  ],
  [
    "how many pods have not started",
    { kind: "current", notStarted: 2 },
    [container(verdicts.current)],
    [/: current/, /: current, 2 not started$/],
  ],
  ["a skip", { kind: "skipped", reason: "paused" }, [], [/: skipped, paused$/]],
  [
    "what is unknown",
    { kind: "unknown", reason: "cannot tell for app" },
    [container(verdicts.unknown)],
    [/: unknown, who knows$/, /: unknown, cannot tell for app$/],
  ],
  [
    "a failure",
    { kind: "failed", error: new Error("no answer for app") },
    [container(verdicts.failed), container(verdicts.skipped)],
    [/: failed, no answer$/, /: skipped, pinned by digest$/, /: failed, no answer for app$/],
  ],
  ["a wait", { kind: "waiting", reason: "no pod" }, [], [/: waiting, no pod$/]],
  ["no convergence", { kind: "not converged", reason: "a mirror", try: 1 }, [], [/: not converged, a mirror$/]],
  [
    "no convergence, and when it is tried again",
    { kind: "not converged", reason: "a mirror; next try after …", try: 2, nextTryAt: "2026-11-21T12:00:00Z" },
    [],
    [/: not converged, a mirror; next try after …$/],
  ],
  ["what was undone", { kind: "taken back", reason: "by kubectl" }, [], [/: taken back, by kubectl$/]],
  [
    "which try it is, from the second on",
    {
      kind: "restarted",
      outdated: { app: digestOf("new"), log: digestOf("log") },
      note: { app: noteOf("new", 2), log: noteOf("log", 1) },
      repeated: [],
    },
    [],
    [/: restarted, outdated: app \(try 2\), log$/],
  ],
  [
    "which image was asked about, if it is not the template's",
    { kind: "current" },
    [{ ...container(verdicts.current), image: "auto", asked: "ghcr.io/mesh/proxy:1.20" }],
    [/container app \(auto, asked about ghcr\.io\/mesh\/proxy:1\.20\): current/, /: current/],
  ],
];

describe("reportLines()", () => {
  for (const [what, verdict, containers, patterns] of told) {
    it(`tells ${what}, one line a container and one for the workload`, () => {
      const lines = reportLines({ subject, verdict, containers }, false);
      assert.equal(lines.length, patterns.length);
      for (const [at, pattern] of patterns.entries()) assert.match(lines[at] ?? "", pattern);
      assert(lines.every((line) => line.startsWith("deployment shop/api")));
    });
  }

  it("leaves the counts and what is not as it was, in a dry run too", () => {
    const restarted: Finding = {
      subject,
      verdict: { kind: "restarted", outdated: { app: digestOf("new") } },
      containers: [],
    };
    const findings: Finding[] = [restarted, { subject, verdict: { kind: "current" }, containers: [] }];
    const left = (isDryRun: boolean) => terminationMessage(report(findings, { isDryRun })).split("\n");
    assert.deepEqual(left(false), ["1 restarted, 1 current", "deployment shop/api: restarted, outdated: app"]);
    const [counts, line] = left(true);
    assert.equal(counts, "1 would be restarted, 1 current");
    assert.equal(line, "deployment shop/api: would be restarted, outdated: app");
    assert.equal(terminationMessage(report([])), "no workload found");
  });

  it("says of a dry run what would be done", () => {
    const finding: Finding = {
      subject,
      verdict: { kind: "restarted", outdated: { app: digestOf("new") } },
      containers: [],
    };
    assert.deepEqual(reportLines(finding, true), ["deployment shop/api: would be restarted, outdated: app"]);
    const lines = closingLines(report([finding, finding], { isDryRun: true, notes: ["a note"] }));
    assert.deepEqual(lines, ["a note", "2 workloads: 2 would be restarted"]);
  });
});

describe("toEvent()", () => {
  it("has a name of its own for each workload", () => {
    const restarted: WorkloadVerdict = { kind: "restarted", outdated: { app: digestOf("new") } };
    const at = new Date();
    const named = (kind: "deployment" | "statefulset", uid: string) => {
      return toEvent({ subject: { ...subject, kind }, verdict: restarted, containers: [] }, uid, at)?.metadata.name;
    };
    assert.notEqual(named("deployment", "u1"), named("statefulset", "u2"));
  });

  it("is one for a restart that was taken back, however often and in whatever words it is found", () => {
    const found = (reason: string, word: string) => {
      const containers = [container({ ...verdicts.outdated, resolved: digestOf(word) })];
      return toEvent({ subject, verdict: { kind: "taken back", reason }, containers }, "uid", new Date());
    };
    const event = found("at once", "new");
    assert.deepEqual([event?.reason, event?.type, event?.message], ["TakenBack", "Warning", "at once"]);
    assert.equal(found("by kubectl", "new")?.metadata.name, event?.metadata.name);
    assert.notEqual(found("by kubectl", "newer")?.metadata.name, event?.metadata.name);
  });

  it("keeps the message within what the API takes, in bytes and in whole characters", () => {
    const release = { version: "é".repeat(64), revision: "😀".repeat(32) };
    const containers = Array.from({ length: 4 }, () => ({ ...container(verdicts.outdated), release }));
    const finding: Finding = {
      subject,
      verdict: { kind: "restarted", outdated: { app: digestOf("new") } },
      containers,
    };
    const { message = "" } = toEvent(finding, "uid", new Date()) ?? {};
    const length = Buffer.byteLength(message);
    assert(length > 1015 && length <= 1024, String(length));
    assert(message.isWellFormed() && !message.includes("\ufffd"));
  });
});

describe("toDocument()", () => {
  it("is told of a version of before by the schema of before, which stays", async () => {
    const stored: unknown = JSON.parse(await readFile(new URL("report.v1.json", import.meta.url), "utf8"));
    assert.equal(mistakesIn(stored, 1), "");
    assert.match(mistakesIn(stored, 2), /schemaVersion/);
    assert.match(mistakesIn(toDocument(report([])), 1), /schemaVersion/);
  });

  it("tells nothing that the judge gives to the action alone", () => {
    const outdated = { app: digestOf("new") };
    const verdict: WorkloadVerdict = {
      kind: "restarted",
      outdated,
      note: { app: noteOf("new", 3) },
      repeated: ["app"],
      made: { at: "2026-11-21T12:00:00Z", previousVersion: "7" },
      isRolledOut: true,
    };
    const containers = [container({ ...verdicts.outdated, image: "auto", unclear: [digestOf("old")] })];
    const document = toDocument(report([{ subject, verdict, containers }]));
    assert.equal(mistakesIn(JSON.parse(JSON.stringify(document))), "");
    const [entry] = document["workloads"] as { containers: { image: string }[] }[];
    const fields = { verdict: "restarted", outdated, tries: { app: 3 }, isRolledOut: true };
    assert.deepEqual(entry, { ...subject, ...fields, containers: entry?.containers });
    assert.equal(entry?.containers[0]?.image, image);
  });

  for (const [what, verdict, containers] of told) {
    it(`tells ${what} as the schema has it`, () => {
      const document = JSON.parse(JSON.stringify(toDocument(report([{ subject, verdict, containers }])))) as unknown;
      assert.equal(mistakesIn(document), "");
    });
  }

  it("tells the digests of every container", () => {
    const verdict = { kind: "restarted", outdated: { app: digestOf("new") } } as const;
    const document = toDocument(report([{ subject, verdict, containers: [container(verdicts.outdated)] }]));
    assert.deepEqual(document["counts"], { restarted: 1 });
    assert.deepEqual(document["workloads"], [
      {
        ...subject,
        verdict: "restarted",
        outdated: { app: digestOf("new") },
        tries: { app: 1 },
        containers: [
          {
            name: "app",
            image,
            podCount: 2,
            verdict: "outdated",
            running: digestOf("old"),
            resolved: digestOf("new"),
            pods: ["p1"],
            isAbsent: false,
            isPartial: false,
          },
        ],
      },
    ]);
  });

  it("tells a list that could not be had apart from workloads", () => {
    const finding: Finding = {
      subject: { kind: "list", name: "deployments in shop" },
      verdict: verdicts.failed,
      containers: [],
    };
    const document = toDocument(report([finding], { exitCode: 1, notes: ["a note"] }));
    assert.equal(mistakesIn(document), "");
    assert.deepEqual([document["workloads"], document["counts"]], [[], {}]);
    assert.deepEqual(document["unlisted"], [{ of: "deployments in shop", verdict: "failed", reason: "no answer" }]);
  });

  it("counts no list among the workloads", () => {
    const failedList = (name: string): Finding => ({
      subject: { kind: "list", name },
      verdict: verdicts.failed,
      containers: [],
    });
    const lists = [failedList("deployments in shop"), failedList("daemonsets in shop")];
    const workload: Finding = { subject, verdict: { kind: "current" }, containers: [] };
    assert.deepEqual(closingLines(report(lists)), ["0 workloads: none found; 2 lists failed"]);
    assert.deepEqual(closingLines(report([...lists, workload])), ["1 workloads: 1 current; 2 lists failed"]);
    const message =
      "1 current; 2 lists failed\ndeployments in shop: failed, no answer\ndaemonsets in shop: failed, no answer";
    assert.equal(terminationMessage(report([workload, ...lists])), message);
  });

  it("has a schema that refuses what it does not know", () => {
    assert.match(mistakesIn({ ...toDocument(report([])), more: 1 }), /additional properties/);
    assert.match(mistakesIn({ ...toDocument(report([])), exitCode: 3 }), /exitCode/);
    for (const [fields, mistake] of [
      [{ verdict: "held" }, /reason/],
      [{ verdict: "not converged", reason: "a mirror" }, /'try'/],
      [{ verdict: "not converged", reason: "a mirror", try: 1, nextTryAt: "soon" }, /nextTryAt/],
      [{ verdict: "restarted", outdated: {} }, /'tries'/],
      [{ verdict: "current", notStarted: 0 }, /notStarted/],
    ] as const) {
      const workloads = [{ ...subject, containers: [], ...fields }];
      assert.match(mistakesIn({ ...toDocument(report([])), workloads }), mistake);
    }
  });

  it("has a schema that knows the verdicts of a mode that is to come", () => {
    const pinned = { verdict: "pinned", outdated: { app: digestOf("new") } };
    for (const fields of [pinned, { verdict: "held", reason: "pinned to another digest since" }]) {
      const counts = { [fields.verdict]: 1 };
      const document = { ...toDocument(report([])), counts, workloads: [{ ...subject, containers: [], ...fields }] };
      assert.equal(mistakesIn(document), "");
    }
  });
});

describe("describeCrash()", () => {
  it("puts the message of a known error on one line", () => {
    const error = new Error("Cannot read /home/a/.kube/config:\n  it has\u2028an end\u001b[31m of line\r\n");
    assert.equal(describeCrash(error), "figwasp: Cannot read /home/a/.kube/config: it has an end [31m of line");
  });

  it("puts a mistake of its own on one line, with the place where it happened", () => {
    const line = describeCrash(new TypeError("x is not a function\nat all"));
    assert.match(line, /^TypeError: x is not a function at all at .*report\.test\.ts:\d+:\d+/);
    assert.doesNotMatch(line, /\n/);
    for (const thrown of ["no\nerror", undefined, null]) assert.doesNotMatch(describeCrash(thrown), /\n/);
  });
});
