import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { inBlocks } from "../step-definitions/support/blocks.ts";
import { missingOf } from "../step-definitions/support/rollout.ts";
import { type RunTimes, summarize } from "../step-definitions/support/summary.ts";
import { inOrder, mayBegin } from "../step-definitions/support/turns.ts";
import { Stopwatch } from "../step-definitions/support/waits.ts";

// The parts of the acceptance suite that can be shown without a cluster.

const ordinary = { tags: [] };
const alone = { tags: [{ name: "@exclusive", astNodeId: "" }] };

describe("mayBegin()", () => {
  it("lets ordinary scenarios run side by side", () => assert(mayBegin(ordinary, [ordinary, ordinary])));
  it("lets an exclusive scenario begin when no other runs", () => assert(mayBegin(alone, [])));
  it("lets no exclusive scenario begin beside another", () => assert(!mayBegin(alone, [ordinary])));
  it("lets nothing begin beside an exclusive scenario", () => assert(!mayBegin(ordinary, [alone])));
});

describe("inOrder()", () => {
  it("puts what is exclusive last, and changes no other order", () => {
    const scenarios = [
      { name: "a", ...alone },
      { name: "b", ...ordinary },
      { name: "c", ...alone },
      { name: "d", ...ordinary },
    ];
    assert.deepEqual(
      inOrder(scenarios, (each) => each).map(({ name }) => name),
      ["b", "d", "a", "c"],
    );
  });
});

describe("inBlocks()", () => {
  const timestamp = { seconds: 0, nanos: 0 };
  const start = (id: string) => ({ testCaseStarted: { id, testCaseId: id, attempt: 0, timestamp } });
  const step = (testCaseStartedId: string) => ({ testStepStarted: { testCaseStartedId, testStepId: "1", timestamp } });
  const end = (testCaseStartedId: string) => ({
    testCaseFinished: { testCaseStartedId, timestamp, willBeRetried: false },
  });

  it("hands on a scenario when it has ended, without another one's messages between", () => {
    const printed: unknown[] = [];
    const hear = inBlocks((message) => printed.push(message));
    const messages = [start("a"), start("b"), step("a"), step("b"), end("b"), step("a"), end("a")];
    for (const message of messages) hear(message);
    assert.deepEqual(printed, [start("b"), step("b"), end("b"), start("a"), step("a"), step("a"), end("a")]);
  });

  it("hands on at once what is of no scenario", () => {
    const printed: unknown[] = [];
    const finished = { testRunFinished: { success: true, timestamp } };
    inBlocks((message) => printed.push(message))(finished);
    assert.deepEqual(printed, [finished]);
  });
});

describe("missingOf()", () => {
  const seen = { observedGeneration: 2 };
  const of = (status: object, replicas = 2) => ({ metadata: { generation: 2 }, spec: { replicas }, status });
  const cases = [
    ["Deployment", of({ observedGeneration: 1 }), "its controller has not seen the template"],
    ["Deployment", of({ ...seen, updatedReplicas: 1, replicas: 3, availableReplicas: 3 }), "1 of 2 pods are updated"],
    [
      "Deployment",
      of({ ...seen, updatedReplicas: 2, replicas: 3, availableReplicas: 3 }),
      "1 old pods are still there",
    ],
    [
      "Deployment",
      of({ ...seen, updatedReplicas: 2, replicas: 2, availableReplicas: 1 }),
      "1 of 2 updated pods are available",
    ],
    ["Deployment", of({ ...seen, updatedReplicas: 2, replicas: 2, availableReplicas: 2 }), undefined],
    ["Deployment", of(seen, 0), undefined],
    ["StatefulSet", of({ ...seen, readyReplicas: 1 }), "1 of 2 pods are ready"],
    [
      "StatefulSet",
      of({ ...seen, readyReplicas: 2, updatedReplicas: 1, updateRevision: "b", currentRevision: "a" }),
      "1 of 2 pods are updated",
    ],
    ["StatefulSet", of({ ...seen, readyReplicas: 2, updateRevision: "b", currentRevision: "b" }), undefined],
    ["DaemonSet", of({ ...seen, desiredNumberScheduled: 1 }), "0 of 1 pods are updated"],
    [
      "DaemonSet",
      of({ ...seen, desiredNumberScheduled: 1, updatedNumberScheduled: 1 }),
      "0 of 1 updated pods are available",
    ],
    ["DaemonSet", of({ ...seen, desiredNumberScheduled: 1, updatedNumberScheduled: 1, numberAvailable: 1 }), undefined],
  ] as const;
  for (const [kind, workload, missing] of cases) {
    it(`says of a ${kind}: ${missing ?? "nothing is missing"} (${JSON.stringify(workload.status)})`, () => {
      assert.equal(missingOf(kind, workload), missing);
    });
  }

  it("throws when the controller has given up", () => {
    const conditions = [
      { type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded", message: "too slow" },
    ];
    assert.throws(() => missingOf("Deployment", of({ ...seen, conditions })), /too slow/);
  });
});

describe("Stopwatch", () => {
  it("counts work within other work once, and what fails too", async () => {
    const stopwatch = new Stopwatch();
    const failing = stopwatch.measure("rollouts", () =>
      stopwatch.measure("images", () => Promise.reject(new Error("no"))),
    );
    await assert.rejects(failing, /no/);
    assert.deepEqual(Object.keys(stopwatch.spent), ["rollouts"]);
    await stopwatch.measure("images", async () => {});
    assert.deepEqual(Object.keys(stopwatch.spent), ["rollouts", "images"]);
  });
});

describe("summarize()", () => {
  const scenario = (name: string, seconds: number) => ({
    name,
    place: `${name}.feature:1`,
    seconds,
    spent: { rollouts: seconds * 500, images: 1000 },
  });
  const times = (count: number): RunTimes => ({
    steps: [{ name: "create the cluster", seconds: 40 }],
    scenarios: Array.from({ length: count }, (_, at) => scenario(`number ${at + 1}`, at + 1)),
    scenariosSeconds: 60,
    runSeconds: 110,
    workers: 2,
  });

  it("names the ten slowest scenarios, the slowest first, with what they spent most of it with", () => {
    const lines = summarize(times(12));
    const at = lines.findIndex((line) => line.startsWith("The 10 slowest"));
    assert.equal(lines[at + 1], "    12.0 s  number 12 (number 12.feature:1): rollouts 6.0 s, images 1.0 s");
    assert.match(lines[at + 10] ?? "", /number 3 /);
    assert.match(lines[at + 11] ?? "", /^All scenarios together: 78.0 s/);
  });

  it("adds up what all scenarios spent it with, the most first", () => {
    const lines = summarize(times(12));
    const at = lines.findIndex((line) => line.startsWith("All scenarios together"));
    assert.deepEqual(lines.slice(at + 1, at + 3), ["    39.0 s  rollouts", "    12.0 s  images"]);
  });

  it("estimates a run of 150 scenarios, where it has seen enough of them", () => {
    assert.equal(summarize(times(12)).at(-1), "An estimate for 150 scenarios like these: 13.3 min");
    assert(!summarize(times(5)).some((line) => line.includes("150")));
  });
});

describe("step-definitions/", () => {
  it("has no two modules that import each other in a circle, types included", async () => {
    const folder = "step-definitions";
    const files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith(".ts"));
    const imports = new Map<string, string[]>();
    for (const file of files) {
      const text = await readFile(join(folder, file), "utf8");
      const found = [...text.matchAll(/(?:from |import\()"(\.[^"]+)"/g)].map(([, path = ""]) =>
        join(dirname(file), path),
      );
      imports.set(
        file,
        found.filter((path) => files.includes(path)),
      );
    }
    assert(imports.get("support/hooks.ts")?.includes("support/world.ts"), "no import was found");
    assert.deepEqual(circlesOf(imports), []);
  });

  it("would be told of a circle", () => {
    const imports = new Map([
      ["a", ["b"]],
      ["b", ["c"]],
      ["c", ["b"]],
    ]);
    assert.deepEqual(circlesOf(imports), ["b → c → b"]);
  });
});

/** Each circle that is met on the way, as `a → b → a`. */
function circlesOf(imports: Map<string, string[]>): string[] {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: string[]): void => {
    if (path.includes(file)) circles.push([...path.slice(path.indexOf(file)), file].join(" → "));
    if (path.includes(file) || done.has(file)) return;
    for (const next of imports.get(file) ?? []) visit(next, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
  return circles;
}
