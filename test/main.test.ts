import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, it, type TestContext } from "node:test";
import { fetch } from "undici";
import { ApiError, type Cluster, main, type Pod, type Workload } from "../figwasp.ts";
import { serveApi } from "./support/api.ts";
import { aPod, aWorkload, revisions } from "./support/cluster.ts";
import { digestOf, imageOf, indexOver, serveRegistry, sha256, type StubRegistry } from "./support/registry.ts";
import { serve } from "./support/serve.ts";

const env = { FIGWASP_TARGET_DEPLOYMENT: "api", FIGWASP_CERTS_DIR: "/nowhere" };

interface Scene {
  workload?: Partial<Workload>;
  pods?: Pod[];
  patch?: () => void;
  env?: Record<string, string>;
}

interface Outcome {
  code: number;
  lines: string[];
  errors: string[];
  patches: { namespace: string; name: string; patch: unknown }[];
}

/** Runs `main` against a cluster of plain data. */
async function run({ workload, pods = [], patch = () => {}, env: variables = {} }: Scene): Promise<Outcome> {
  const outcome: Outcome = { code: -1, lines: [], errors: [], patches: [] };
  const cluster: Cluster = {
    namespace: "shop",
    getDeployment: async (namespace, name) => aWorkload({ namespace, name, ...workload }),
    listReplicaSets: async () => revisions,
    listPods: async () => pods,
    patchDeployment: async (namespace, name, body) => {
      outcome.patches.push({ namespace, name, patch: body });
      patch();
    },
  };
  outcome.code = await main(
    [],
    { ...env, ...variables },
    {
      fetch,
      connect: async () => cluster,
      now: () => new Date("2026-11-21T10:00:00.123Z"),
      log: (line) => outcome.lines.push(line),
      logError: (line) => outcome.errors.push(line),
      stop: new AbortController().signal,
    },
  );
  return outcome;
}

/** A registry whose `app:latest` is an image of this word, and a workload of that image. */
async function aRegistry(t: TestContext, word: string): Promise<{ stub: StubRegistry; workload: Partial<Workload> }> {
  const stub = await serveRegistry(t);
  stub.manifests.set("latest", imageOf(word));
  return { stub, workload: { containers: [{ name: "app", image: `${stub.host}/app:latest` }] } };
}

function podOf(word: string, name = "p1"): Pod {
  const imageID = `x/app@${sha256(imageOf(word).body)}`;
  return aPod(name, "", { containers: [{ name: "app", pullPolicy: "Always", imageID }] });
}

describe("main()", () => {
  it("restarts an outdated Deployment by one PATCH of two annotations, and says what it compared", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1"), podOf("v2", "p2")] });
    const [running, resolved] = [imageOf("v1"), imageOf("v2")].map(({ body }) => sha256(body));
    assert.equal(code, 0);
    assert.deepEqual(lines, [
      `deployment shop/api, container app (${stub.host}/app:latest): outdated, ` +
        `running ${running} in 1 of 2 pods, resolved ${resolved}`,
      "deployment shop/api: restarted, outdated: app",
    ]);
    const annotations = {
      "kubectl.kubernetes.io/restartedAt": "2026-11-21T10:00:00Z",
      "figwasp/restarted-for": JSON.stringify({ app: resolved }),
    };
    const patch = { metadata: { resourceVersion: "7" }, spec: { template: { metadata: { annotations } } } };
    assert.deepEqual(patches, [{ namespace: "shop", name: "api", patch }]);
  });

  it("changes nothing where every pod runs the tag's digest", async (t) => {
    const { stub, workload } = await aRegistry(t, "v1");
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")] });
    assert.deepEqual([code, patches], [0, []]);
    assert.match(lines[0] ?? "", /: current, resolved sha256:/);
    assert.equal(lines[1], "deployment shop/api: current, nothing to do");
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest"]);
  });

  it("looks in the named namespace, else in the cluster's own", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const scene = { workload, pods: [podOf("v1")] };
    assert.equal((await run(scene)).patches[0]?.namespace, "shop");
    assert.equal((await run({ ...scene, env: { FIGWASP_TARGET_NAMESPACE: "other" } })).patches[0]?.namespace, "other");
  });

  it("takes a child of the index as the same content", async (t) => {
    const { stub, workload } = await aRegistry(t, "v1");
    stub.manifests.set("latest", indexOver(digestOf("amd64")));
    const pods = [aPod("p1", "amd64")];
    const { code, patches } = await run({ workload, pods });
    assert.deepEqual([code, patches], [0, []]);
  });

  it("asks no registry where the answer could not matter", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const image = `${stub.host}/app:latest`;
    const scenes: [string, Scene, RegExp][] = [
      ["paused", { workload: { ...workload, isPaused: true }, pods: [podOf("v1")] }, /skipped, paused/],
      ["no pods", { workload }, /waiting, no pod of the current revision has started/],
      ["pending", { workload, pods: [aPod("p1", "")] }, /waiting, no pod/],
      [
        "pinned",
        { workload: { containers: [{ name: "app", image: `${image}@${digestOf("x")}` }] }, pods: [podOf("v1")] },
        /skipped, no container whose image a restart could change/,
      ],
    ];
    for (const [what, scene, last] of scenes) {
      const { code, lines, patches } = await run(scene);
      assert.deepEqual([code, patches], [0, []], what);
      assert.match(lines.at(-1) ?? "", last);
    }
    assert.deepEqual(stub.requests, []);
  });

  it("fails without a restart where the registry does not answer", async () => {
    const workload = { containers: [{ name: "app", image: "127.0.0.1:4/app:latest" }] };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")] });
    assert.deepEqual([code, patches], [1, []]);
    assert.match(lines[1] ?? "", /^deployment shop\/api: failed, Cannot resolve "127.0.0.1:4\/app:latest": HEAD http/);
  });

  it("restarts for one container, and still fails, where the lookup of another failed", async (t) => {
    const { stub } = await aRegistry(t, "v2");
    const containers = [
      { name: "lost", image: "127.0.0.1:4/app:latest" },
      { name: "app", image: `${stub.host}/app:latest` },
    ];
    const [pod] = [podOf("v1")];
    pod?.containers.push({ name: "lost", pullPolicy: "Always", imageID: `x@${digestOf("x")}` });
    const { code, lines, patches } = await run({ workload: { containers }, pods: pod ? [pod] : [] });
    assert.equal(code, 1);
    assert.equal(patches.length, 1);
    assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app");
  });

  it("fails an image that cannot be parsed", async () => {
    const workload = { containers: [{ name: "app", image: "Not/An/Image:" }] };
    const { code, lines } = await run({ workload, pods: [podOf("v1")] });
    assert.equal(code, 1);
    assert.match(lines[0] ?? "", /failed, Cannot parse image "Not\/An\/Image:"/);
  });

  it("judges again, once, where the Deployment changed in between", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    let conflicts = 1;
    const patch = () => {
      if (conflicts-- > 0) throw new ApiError(409, "the object has been modified");
    };
    const { code, patches } = await run({ workload, pods: [podOf("v1")], patch });
    assert.deepEqual([code, patches.length, stub.requests.length], [0, 2, 2]);

    conflicts = 2;
    const again = await run({ workload, pods: [podOf("v1")], patch });
    assert.deepEqual([again.code, again.patches.length], [1, 2]);
    assert.equal(again.lines.at(-1), "deployment shop/api: failed, Cannot restart: the object has been modified");
  });

  it("fails where the restart is refused", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const patch = () => {
      throw new ApiError(403, 'cannot patch resource "deployments"');
    };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")], patch });
    assert.deepEqual([code, patches.length], [1, 1]);
    assert.match(lines.at(-1) ?? "", /failed, Cannot restart: cannot patch resource "deployments"$/);
  });

  it("answers a bad variable with 2 and one line, before any request", async () => {
    const { code, lines, errors } = await run({ env: { FIGWASP_CLIENT_TIMEOUT: "soon" } });
    assert.deepEqual([code, lines], [2, []]);
    const needed = "a positive Go duration is needed, such as 30s or 1m30s";
    assert.deepEqual(errors, [`figwasp: Cannot use FIGWASP_CLIENT_TIMEOUT "soon": ${needed}`]);
  });

  it("shows a stack for a mistake of its own alone", async () => {
    const outside = {
      fetch,
      connect: () => Promise.reject(new TypeError("x is not a function")),
      now: () => new Date(),
      log: () => {},
      logError: (line: string) => void errors.push(line),
      stop: new AbortController().signal,
    };
    const errors: string[] = [];
    assert.equal(await main([], env, outside), 1);
    assert.match(errors[0] ?? "", /x is not a function\n\s+at /);
  });
});

describe("node figwasp.ts", () => {
  interface Ended {
    code: number | null;
    stdout: string;
    stderr: string;
  }

  function start(variables: Record<string, string>, ...argv: string[]) {
    // Nothing of this machine's own: no kubeconfig, no home that holds one.
    const child = spawn(process.execPath, ["figwasp.ts", ...argv], { env: { HOME: "/nowhere", ...variables } });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const ended = new Promise<Ended>((resolve) => {
      child.on("close", (code) => resolve({ code, stdout, stderr }));
    });
    return { child, ended };
  }

  it("prints one line and exits 2 without a Deployment, and without a cluster", async () => {
    assert.deepEqual(await start({}).ended, {
      code: 2,
      stdout: "",
      stderr: "figwasp: Cannot start: FIGWASP_TARGET_DEPLOYMENT is not set, the name of a Deployment is needed\n",
    });
    const { code, stderr } = await start(env).ended;
    assert.equal(code, 2);
    assert.match(stderr, /^figwasp: Cannot find a cluster: a kubeconfig with a current context is needed, .*\n$/);
  });

  it("prints the help on standard output", async () => {
    const { code, stdout, stderr } = await start({}, "--help").ended;
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Usage: figwasp/);
  });

  it("exits 1 with one line where the Deployment is not there", async (t) => {
    const stub = await serveApi(t, {});
    const { code, stderr } = await start({ ...env, KUBECONFIG: process.env["KUBECONFIG"] ?? "" }).ended;
    assert.equal(code, 1);
    const path = "/apis/apps/v1/namespaces/shop/deployments/api";
    const reason = `GET ${path} returned 404: no such thing`;
    assert.equal(stderr, `figwasp: Cannot read deployment "shop/api": ${reason}\n`);
    assert.deepEqual(stub.lines(), [`GET ${path}`]);
  });

  it("ends within its deadline where the API server never answers", async (t) => {
    const stub = await serve(t, () => {});
    await serveApi(t, {});
    const variables = { ...env, KUBECONFIG: await kubeconfigOf(t, stub.host), FIGWASP_RUN_TIMEOUT: "100ms" };
    const { code, stderr } = await start(variables).ended;
    assert.equal(code, 1);
    assert.match(stderr, /was ended: The operation was aborted due to timeout\n$/);
  });

  it("ends on SIGTERM, and says so", async (t) => {
    const asked = Promise.withResolvers<void>();
    const stub = await serve(t, () => asked.resolve());
    const { child, ended } = start({ ...env, KUBECONFIG: await kubeconfigOf(t, stub.host) });
    await asked.promise;
    child.kill("SIGTERM");
    const { code, stderr } = await ended;
    assert.equal(code, 1);
    assert.match(stderr, /^figwasp: Cannot read deployment "shop\/api": .* was ended: SIGTERM was received\n$/);
  });
});

async function kubeconfigOf(t: TestContext, host: string): Promise<string> {
  const { kubeconfigFor } = await import("./support/api.ts");
  const { folderOf } = await import("./support/registry.ts");
  return `${await folderOf(t, { kubeconfig: kubeconfigFor(host) })}/kubeconfig`;
}
