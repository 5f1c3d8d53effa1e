import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Finding, WorkloadVerdict } from "../lib/verdicts.ts";
import { diagnose, type Diagnosis } from "../lib/command/doctor.ts";
import { HttpError } from "../lib/errors.ts";
import type { Visit } from "../lib/registry/registry.ts";
import { verdicts } from "./support/cluster.ts";

const subject = { kind: "deployment", namespace: "shop", name: "api" } as const;
const image = "ghcr.io/acme/api:1.2";

/** What the doctor reports besides one image without a problem, and its advice. */
function tell(diagnosis: Partial<Diagnosis>): { found: string[]; advice: string[]; isWell: boolean } {
  const container = { name: "app", image, verdict: verdicts.current, podCount: 1 };
  const well: Finding = { subject, verdict: { kind: "current" }, containers: [container] };
  const nothing = { rights: [], findings: [well], visits: [], quotas: new Map(), notes: [], aheadMs: 0 };
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
  ];
  for (const [what, verdict, advice] of workloads) {
    it(`says what to do about one ${what}`, () => {
      const told = tell({ findings: [{ subject, verdict, containers: [] }] });
      assert.deepEqual([told.advice, told.isWell], [advice === undefined ? [] : [advice], advice === undefined]);
    });
  }

  it("gives the likely cause where a restart did not help", () => {
    const verdict = { kind: "not converged", reason: "likely a mirror: set FIGWASP_CERTS_DIR" } as const;
    const container = { name: "app", image, verdict: verdicts.outdated, podCount: 1 };
    const { advice, isWell } = tell({ findings: [{ subject, verdict, containers: [container] }] });
    assert.deepEqual([advice, isWell], [["See to deployment shop/api: likely a mirror: set FIGWASP_CERTS_DIR"], false]);
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
