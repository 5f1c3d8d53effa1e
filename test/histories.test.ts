import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { judgeWorkload } from "../figwasp.ts";
import { type MarkedRevision, readMarks, writeNote } from "../lib/command/note.ts";
import type { ContainerVerdict, OutdatedContainer } from "../lib/verdicts.ts";
import { aPod, verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

// What comes of the judge's verdicts over days, with those who write the template too. The controller is a model; real
// ones are in test/controllers.

const { current, outdated } = verdicts;
const restartAnnotation = "kubectl.kubernetes.io/restartedAt";
const noteAnnotation = "figwasp/restarted-for";
const startMs = Date.parse("2026-11-21T11:00:00Z");
const everyMs = 5 * 60_000;
const runsInThreeDays = (72 * 3_600_000) / everyMs;

type Annotations = Record<string, string>;

/** The pod template of a Deployment and the revisions that its controller makes: equal templates are one ReplicaSet. */
class Deployment {
  annotations: Annotations = {};
  revisions: MarkedRevision[] = [];
  readonly #limit: number;

  constructor(annotations: Annotations = {}, revisionHistoryLimit = 10) {
    this.#limit = revisionHistoryLimit;
    this.write(annotations, startMs - 100_000_000);
  }

  write(annotations: Annotations, ms: number): void {
    const number = (this.revisions[0]?.number ?? 0) + 1;
    const textOf = (template: Annotations) =>
      JSON.stringify(
        template,
        Object.keys(template).toSorted((a, b) => a.localeCompare(b)),
      );
    const found = this.revisions.find(({ templateAnnotations }) => textOf(templateAnnotations) === textOf(annotations));
    const createdAtMs = found?.createdAtMs ?? Math.floor(ms / 1000) * 1000;
    const revision = { number, createdAtMs, isReused: found !== undefined, templateAnnotations: annotations };
    const older = this.revisions.filter((each) => each !== found);
    this.annotations = annotations;
    this.revisions = [Object.assign(readMarks(annotations, restartAnnotation), revision), ...older];
    this.revisions.splice(1 + this.#limit);
  }
}

interface History {
  deployment?: Deployment;
  runs?: number;
  /** What somebody writes after each restart. */
  react?: (deployment: Deployment, ms: number) => void;
  /** What is found after so many restarts. */
  found?: (restarts: number) => Record<string, ContainerVerdict>;
  /** Whether the pods are made anew by each restart. */
  isReplaced?: boolean;
}

/** Runs every five minutes; gives how often it restarted, and the last verdict. */
function live(history: History): { restarts: number; last: string } {
  const { deployment = new Deployment(), runs = runsInThreeDays, react = () => {}, isReplaced = false } = history;
  const { found = () => ({ app: outdated }) } = history;
  let [restarts, createdAtMs, last] = [0, startMs - 1000, ""];
  for (let run = 0; run < runs; run++) {
    const ms = startMs + run * everyMs;
    const verdict = judgeWorkload({
      pods: [aPod("p1", "old", { createdAtMs })],
      containers: new Map(Object.entries(found(restarts))),
      now: new Date(ms),
      retryIntervalMs: undefined,
      template: readMarks(deployment.annotations, restartAnnotation),
      managers: [],
      revisions: deployment.revisions,
    });
    last = verdict.kind;
    if (verdict.kind !== "restarted") continue;
    restarts += 1;
    const at = `${new Date(ms).toISOString().slice(0, 19)}Z`;
    const written = { [restartAnnotation]: at, [noteAnnotation]: writeNote(at, verdict.note ?? {}) };
    deployment.write({ ...deployment.annotations, ...written }, ms);
    if (isReplaced) createdAtMs = ms + 2000;
    react(deployment, ms);
  }
  return { restarts, last };
}

function without(annotations: Annotations, key: string): Annotations {
  return Object.fromEntries(Object.entries(annotations).filter(([each]) => each !== key));
}

describe("three days, a run every five minutes", () => {
  it("makes seven restarts behind a mirror that never catches up", () => {
    assert.deepEqual(live({ isReplaced: true }), { restarts: 7, last: "not converged" });
  });

  it("makes one restart for an owner that puts its template back", () => {
    const react = (deployment: Deployment, ms: number) => deployment.write({}, ms + 2000);
    assert.deepEqual(live({ react }), { restarts: 1, last: "taken back" });
  });

  for (const first of [noteAnnotation, restartAnnotation]) {
    it(`makes one for an owner that takes the annotations out one by one, ${first} first`, () => {
      const react = (deployment: Deployment, ms: number) => {
        deployment.write(without(deployment.annotations, first), ms + 2000);
        deployment.write({}, ms + 4000);
      };
      assert.deepEqual(live({ react }), { restarts: 1, last: "taken back" });
    });
  }

  it("makes few more for somebody who answers each restart by an annotation, behind such a mirror", () => {
    const react = (deployment: Deployment, ms: number) => {
      deployment.write({ ...deployment.annotations, "operator/seen": String(ms) }, ms + 2000);
    };
    const { restarts, last } = live({ react, isReplaced: true });
    assert.equal(last, "not converged");
    assert(restarts <= 9, `${restarts} restarts`);
  });

  for (const limit of [1, 10]) {
    it(`makes no more for an owner that puts its old restartedAt back, with ${limit} older revisions`, () => {
      const old = { [restartAnnotation]: "2026-01-01T00:00:00Z" };
      const react = (deployment: Deployment, ms: number) => {
        deployment.write({ ...deployment.annotations, ...old }, ms + 2000);
      };
      const history = { deployment: new Deployment(old, limit), react, isReplaced: true };
      assert.deepEqual(live(history), { restarts: 7, last: "not converged" });
    });
  }

  it("makes seven at most for each of two containers behind caches that answer by turns", () => {
    const found = (restarts: number): Record<string, ContainerVerdict> => {
      return restarts % 2 === 0 ? { app: outdated, web: current } : { app: current, web: outdated };
    };
    const { restarts } = live({ found, isReplaced: true });
    assert(restarts <= 14, `${restarts} restarts`);
  });

  it("makes no more for many nodes that each pull something else", () => {
    const [running = digestOf("d"), ...alsoRunning] = Array.from({ length: 40 }, (_, index) => digestOf(`d${index}`));
    const app: OutdatedContainer = { ...outdated, running, alsoRunning };
    assert.deepEqual(live({ found: () => ({ app }), isReplaced: true }), { restarts: 7, last: "not converged" });
  });
});
