import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ContainerVerdict, Finding, WorkloadVerdict } from "../lib/verdicts.ts";
import { diagnose, type Diagnosis } from "../lib/command/doctor.ts";
import { HttpError } from "../lib/errors.ts";
import type { Visit } from "../lib/registry/registry.ts";
import { verdicts } from "./support/cluster.ts";
import { digestOf } from "./support/registry.ts";

const subject = { kind: "deployment", namespace: "shop", name: "api" } as const;
const image = "ghcr.io/acme/api:1.2";

/** What the doctor reports besides one image without a problem, and its advice. */
function tell(diagnosis: Partial<Diagnosis>): { found: string[]; advice: string[]; isWell: boolean } {
  const container = { name: "app", image, verdict: verdicts.current, podCount: 1 };
  const well: Finding = { subject, verdict: { kind: "current" }, containers: [container] };
  const nothing = { rights: [], findings: [well], exitCode: 0, visits: [], quotas: new Map(), notes: [], aheadMs: 0 };
  const { lines, isWell } = diagnose({ ...nothing, ...diagnosis });
  const end = lines.indexOf("What to do");
  const advice = end < 0 ? [] : lines.slice(end + 1).map((line) => line.replace(/^ {2}\d+\. /, ""));
  const found = lines.slice(0, end < 0 ? -1 : end);
  return { found: "findings" in diagnosis ? found : found.slice(2), advice, isWell };
}

describe("diagnose(), of a registry", () => {
  const visit: Visit = {
    registry: "docker.io",
    base: "https://registry-1.docker.io/v2",
    isMirror: false,
    found: "asks for no credential",
    status: 200,
  };
  const mirror = { base: "http://mirror:5000/v2", isMirror: true };
  const visits: [string, Partial<Visit>, string][] = [
    ["that answers", {}, "  ok  docker.io, at https://registry-1.docker.io/v2: asks for no credential"],
    [
      "whose mirror answers",
      mirror,
      "  ok  docker.io, at its mirror http://mirror:5000/v2, plain http: asks for no credential",
    ],
    [
      "that has not the tag",
      { status: 404 },
      "  --  docker.io, at https://registry-1.docker.io/v2: asks for no credential, and answers 404 Not Found",
    ],
    [
      "that refuses",
      { status: 401, found: "asks for Basic" },
      "  NO  docker.io, at https://registry-1.docker.io/v2: asks for Basic, and answers 401 Unauthorized",
    ],
    [
      "that has had enough",
      { status: 429 },
      "  NO  docker.io, at https://registry-1.docker.io/v2: asks for no credential, and answers 429 Too Many Requests",
    ],
    [
      "that is broken",
      { status: 503 },
      "  NO  docker.io, at https://registry-1.docker.io/v2: asks for no credential, and answers 503 Service Unavailable",
    ],
    [
      "that is not there",
      { status: undefined, found: "no such host" },
      "  NO  docker.io, at https://registry-1.docker.io/v2: no such host",
    ],
    [
      "whose mirror is not there",
      { ...mirror, status: undefined, found: "gone" },
      "  --  docker.io, at its mirror http://mirror:5000/v2, plain http: gone",
    ],
  ];
  for (const [what, changes, line] of visits) {
    it(`tells of one ${what}`, () => {
      const { found, isWell } = tell({ visits: [{ ...visit, ...changes }] });
      assert.deepEqual(found.slice(0, 2), ["Registries", line]);
      assert.equal(isWell, !line.startsWith("  NO"));
    });
  }

  it("tells once what holds for several repositories", () => {
    assert.equal(tell({ visits: [visit, { ...visit }, { ...visit, found: "asks for Basic" }] }).found.length, 3 + 2);
  });

  it("tells what remains of its limit, and what to do where that is left to the nodes", () => {
    const quota = { remaining: 20, limit: 100, windowSeconds: 21600 };
    const enough = tell({ quotas: new Map([["registry-1.docker.io", quota]]) });
    assert.equal(enough.found[1], "  ok  registry-1.docker.io: 20 of 100 remain of its rate limit, per 6 h");
    assert.deepEqual(enough.advice, []);
    const low = tell({ quotas: new Map([["registry-1.docker.io", { ...quota, remaining: 19 }]]) });
    assert.equal(low.found[1], "  --  registry-1.docker.io: 19 of 100 remain of its rate limit, per 6 h");
    assert.match(low.advice.join(), /^Run less often, or give the pods a pull Secret for registry-1.docker.io: /);
    assert.equal(low.isWell, true);
  });
});

describe("diagnose(), of an image", () => {
  const failed = (message: string, cause?: unknown): Finding => {
    const verdict = { kind: "failed", error: new Error(message, { cause }) } as const;
    const { error } = verdicts.failed;
    return { subject, verdict: { kind: "failed", error }, containers: [{ name: "app", image, verdict, podCount: 1 }] };
  };
  const advices: [string, Finding, RegExp][] = [
    [
      "that nobody reaches",
      failed("no", new HttpError(undefined, "no")),
      /: let figwasp reach the registry of ghcr.io.*HTTPS_PROXY/,
    ],
    [
      "that wants a credential",
      failed("no", new HttpError(401, "no")),
      /: give its pods a pull Secret .* kubectl create secret/,
    ],
    ["that is refused", failed("no", new HttpError(403, "no")), /: give its pods a pull Secret/],
    [
      "that is not there",
      failed("no", new HttpError(404, "no")),
      /: push ghcr.io\/acme\/api:1.2, .* kubectl set image, or /,
    ],
    ["behind a limit", failed("no", new HttpError(429, "no")), /: wait for the limit of the registry of ghcr.io/],
    ["of a broken registry", failed("HEAD … returned 500", new HttpError(500, "no")), /: HEAD … returned 500$/],
    ["whose setting is named", failed("set FIGWASP_X", new HttpError(401, "no")), /: set FIGWASP_X$/],
    [
      "whose Secret is broken",
      failed("Cannot use Secret shop/pull", new Error("no")),
      /: Cannot use Secret shop\/pull$/,
    ],
  ];
  it("says what to do where the registry told of one running digest, and not of another", () => {
    const failure = new Error("no", { cause: new HttpError(401, "no") });
    const verdict = { ...verdicts.outdated, failure };
    const containers = [{ name: "app", image: "auto", asked: image, verdict, podCount: 2 }];
    const restarted: WorkloadVerdict = { kind: "restarted", outdated: { app: digestOf("a") }, note: {}, repeated: [] };
    const { found, advice, isWell } = tell({ findings: [{ subject, verdict: restarted, containers }] });
    assert.match(
      found[1] ?? "",
      /^ {2}NO {2}deployment shop\/api, container app \(auto, asked about ghcr.*1\.2\): outdated/,
    );
    assert.match(advice.join(), /: give its pods a pull Secret that the registry of ghcr.io\/acme\/api:1.2 takes/);
    assert.equal(isWell, false);
  });

  const skipped: [string, string | undefined][] = [
    ["pinned by digest", undefined],
    ["not among the containers that its annotation figwasp/containers names", undefined],
    ["not in the pod template: what injects it decides about its image", undefined],
    ["imagePullPolicy is IfNotPresent, so that a restart would not pull: set it to Always", "to Always"],
  ];
  for (const [reason, advised] of skipped) {
    it(`advises ${advised === undefined ? "nothing" : "a pull policy"} where it is skipped: ${reason}`, () => {
      const containers = [{ name: "app", image, verdict: { kind: "skipped", reason } as const, podCount: 1 }];
      const { found, advice, isWell } = tell({
        findings: [{ subject, verdict: { kind: "skipped", reason: "" }, containers }],
      });
      assert(found[1]?.startsWith(advised === undefined ? "  --  " : "  NO  "), found[1]);
      assert.equal(found.length, 2 + 2, "nothing but the container, and the clock");
      assert.deepEqual([advice.length, isWell], advised === undefined ? [0, true] : [1, false]);
      assert(advice.join().endsWith(advised ?? ""));
    });
  }

  for (const [what, finding, pattern] of advices) {
    it(`says what to do about one ${what}`, () => {
      const { advice, isWell } = tell({ findings: [finding] });
      assert.deepEqual([advice.length, isWell], [1, false]);
      assert.match(advice[0] ?? "", /^See to container app of deployment shop\/api: /);
      assert.match(advice[0] ?? "", pattern);
    });
  }
});

describe("diagnose(), of a workload", () => {
  const workloads: [string, WorkloadVerdict, string | undefined][] = [
    [
      "that is not there",
      { kind: "failed", error: new Error("no", { cause: new HttpError(404, "no") }) },
      "Name what is there in place of deployment shop/api",
    ],
    ["that cannot be read", { kind: "failed", error: new Error("no") }, "See to deployment shop/api: no"],
    ["that is paused", { kind: "skipped", reason: "paused" }, undefined],
    ["that its owner has paused", { kind: "skipped", reason: "paused by its label figwasp/paused" }, undefined],
    [
      "whose words cannot be read",
      { kind: "failed", error: new Error('its label figwasp/paused is "yes", true or false is needed') },
      'See to deployment shop/api: its label figwasp/paused is "yes", true or false is needed',
    ],
  ];
  for (const [what, verdict, advice] of workloads) {
    it(`says what to do about one ${what}`, () => {
      const told = tell({ findings: [{ subject, verdict, containers: [] }] });
      assert.deepEqual([told.advice, told.isWell], [advice === undefined ? [] : [advice], advice === undefined]);
      const mark = advice === undefined ? "--" : "NO";
      const reason = verdict.kind === "failed" ? verdict.error.message : "reason" in verdict && verdict.reason;
      assert.equal(told.found[1], `  ${mark}  deployment shop/api: ${verdict.kind}, ${reason}`);
    });
  }

  const whenIts = (
    verdict: WorkloadVerdict,
    container: ContainerVerdict = verdicts.outdated,
    more: Partial<Finding> = {},
  ) =>
    tell({
      findings: [{ subject, verdict, containers: [{ name: "app", image, verdict: container, podCount: 1 }], ...more }],
    });

  const tries: [string, string | undefined][] = [
    ["next try after 2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"],
    ["no further try", undefined],
  ];
  for (const [next, nextTryAt] of tries) {
    it(`gives the likely cause where a restart did not help: ${next}`, () => {
      const verdict = { kind: "not converged", reason: "likely a mirror: set FIGWASP_CERTS_DIR", try: 1 } as const;
      const { found, advice, isWell } = whenIts({ ...verdict, ...(nextTryAt !== undefined && { nextTryAt }) });
      assert.equal(found[2], `  NO  deployment shop/api: not converged, ${next}`);
      assert.deepEqual(
        [advice, isWell],
        [["See to deployment shop/api: likely a mirror: set FIGWASP_CERTS_DIR"], false],
      );
    });
  }

  it("says what lifts that a restart was taken back", () => {
    const { found, advice, isWell } = whenIts({
      kind: "taken back",
      reason: "app was restarted, and kubectl took that back",
    });
    assert.equal(found[2], "  NO  deployment shop/api: taken back, app was restarted, and kubectl took that back");
    const leave = "kubectl label -n shop deployment/api figwasp/paused=true leaves it as it is";
    const roll = "kubectl rollout restart -n shop deployment/api runs what its tag has, unless that is taken back too";
    assert.deepEqual([advice, isWell], [[`See to deployment shop/api: ${leave}, ${roll}`], false]);
  });

  it("tells a container that would be restarted for the same digest again because of another", () => {
    const outdated = { app: digestOf("a") };
    const { found, advice, isWell } = whenIts({ kind: "restarted", outdated, note: {}, repeated: ["app"] });
    const what = "container app of deployment shop/api: a restart for the same digest did not help before";
    assert.deepEqual([found[2], advice, isWell], [`  NO  ${what}`, [`See to ${what}`], false]);
  });

  it("tells that the controller has given up, though every image is as it should be", () => {
    const error = new Error("its new pods do not become available");
    const { found, advice, isWell } = whenIts({ kind: "failed", error }, verdicts.current);
    assert.equal(found[2], "  NO  deployment shop/api: failed, its new pods do not become available");
    assert.deepEqual([advice, isWell], [["See to deployment shop/api: its new pods do not become available"], false]);
  });

  it("tells what is unknown of a workload and of none of its containers", () => {
    const { found, advice, isWell } = whenIts({ kind: "unknown", reason: "the nodes may know one by either name" });
    assert.equal(found[2], "  --  deployment shop/api: unknown, the nodes may know one by either name");
    assert.deepEqual([advice, isWell], [[], true]);
  });

  it("tells that an undo cannot be remembered where no older revision is kept", () => {
    const { found, advice, isWell } = whenIts({ kind: "current" }, verdicts.current, { keepsNoRevisions: true });
    const why = "revisionHistoryLimit is 0, so that an undo of a restart cannot be remembered";
    assert.equal(found[2], `  --  deployment shop/api: ${why}`);
    assert.deepEqual([advice, isWell], [["Set revisionHistoryLimit of deployment shop/api to 1 or more"], true]);
  });

  it("never finds all well where a run would fail", () => {
    const { found, advice, isWell } = tell({ exitCode: 1 });
    assert.deepEqual(found.slice(-2), ["The run", "  NO  it would end with exit code 1"]);
    assert.deepEqual([advice.length, isWell], [1, false]);
    const { error } = verdicts.failed;
    const failed: Finding = { subject, verdict: { kind: "failed", error }, containers: [] };
    assert(!tell({ exitCode: 1, findings: [failed] }).found.includes("The run"), "a line says why already");
  });
});

describe("diagnose(), of the clock", () => {
  const clocks: [number | undefined, string, number][] = [
    [undefined, "  --  the API server tells no time", 0],
    [1400, "  ok  as the API server's", 0],
    [-59_000, "  ok  59 s behind the API server's", 0],
    [61_000, "  NO  61 s ahead of the API server's", 1],
  ];
  for (const [aheadMs, line, advices] of clocks) {
    it(`tells ${JSON.stringify(line)}`, () => {
      const { found, advice } = tell({ aheadMs });
      assert.deepEqual([found, advice.length], [["Clock", line], advices]);
    });
  }
});
