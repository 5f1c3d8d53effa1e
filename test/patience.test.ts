import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { describe, it, type TestContext } from "node:test";
import { connectCluster, main } from "../figwasp.ts";
import { fetch } from "../lib/http/fetch.ts";
import { boundFetch } from "../lib/http/transport.ts";
import type { Cluster } from "../lib/kubernetes/cluster.ts";
import { kubeconfigFor } from "./support/api.ts";
import { aWorkload } from "./support/cluster.ts";
import { folderOf, imageOf, serveRegistry, sha256 } from "./support/registry.ts";
import { type Recorded, serve, type Stub } from "./support/serve.ts";

// An API server that is busy, or is being replaced.

const path = "/apis/apps/v1/namespaces/shop/deployments/api";
const name = { kind: "deployment", namespace: "shop", name: "api" } as const;

type Trouble = (response: ServerResponse) => void;

const answering =
  (status: number, headers: Record<string, string> = {}): Trouble =>
  (response) =>
    response.writeHead(status, headers).end(JSON.stringify({ message: "busy" }));
const reset: Trouble = (response) => void response.socket?.destroy();
const breakingOff: Trouble = (response) => {
  response.writeHead(200, { "content-length": "100" }).write("{", () => response.socket?.destroy());
};

interface Busy {
  cluster: Cluster;
  stub: Stub;
}

interface BusyOptions {
  signal?: AbortSignal;
  /** Told of each request before it is answered; true if it has answered by itself. */
  answer?: (request: Recorded, response: ServerResponse) => boolean;
}

/** An API server that answers its first requests with these troubles, and then well. */
async function serveBusy(t: TestContext, troubles: Trouble[], options: BusyOptions = {}): Promise<Busy> {
  const { signal = new AbortController().signal, answer = () => false } = options;
  const left = [...troubles];
  const stub = await serve(t, (request, response) => {
    if (answer(request, response)) return;
    const trouble = left.shift();
    if (trouble) trouble(response);
    else response.end(JSON.stringify({ metadata: { name: "api" }, items: [] }));
  });
  const kubeconfig = `${await folderOf(t, { kubeconfig: kubeconfigFor(stub.host) })}/kubeconfig`;
  const config = { kubeconfig, context: undefined, fieldManager: "figwasp", restartAnnotation: "r" };
  const cluster = await connectCluster(boundFetch(fetch, 5000, signal), config, { signal, pauseMs: 1 });
  return { cluster, stub };
}

const asks: Record<string, (cluster: Cluster) => Promise<unknown>> = {
  GET: (cluster) => cluster.getWorkload(name),
  PATCH: (cluster) => cluster.annotateTemplate(aWorkload(), { a: "1" }, { isDryRun: false }),
  POST: (cluster) => cluster.mayI({ namespace: "shop", verb: "get", group: "apps", resource: "pods", name: "a" }),
};

describe("a busy API server", { concurrency: true }, () => {
  const passing: Record<string, Trouble> = {
    "429 with Retry-After": answering(429, { "retry-after": "0" }),
    "500 with Retry-After": answering(500, { "retry-after": "0" }),
    "529 with Retry-After": answering(529, { "retry-after": "0" }),
    "429": answering(429),
    "500": answering(500),
    "502": answering(502),
    "503": answering(503),
    "504": answering(504),
    "a connection that is reset": reset,
    "an answer that breaks off": breakingOff,
  };
  for (const [method, ask] of Object.entries(asks)) {
    for (const [what, trouble] of Object.entries(passing)) {
      it(`is asked again by ${method} after ${what}`, async (t) => {
        const { cluster, stub } = await serveBusy(t, [trouble]);
        await ask(cluster);
        // A GET over a connection that is new is not sent again by the HTTP client itself.
        assert.equal(stub.requests.length, 2);
      });
    }
  }

  it("is waited for as long as its Retry-After says", async (t) => {
    const { cluster, stub } = await serveBusy(t, [answering(429, { "retry-after": "1" })]);
    const beganMs = performance.now();
    await cluster.getWorkload(name);
    assert(performance.now() - beganMs >= 990);
    assert.equal(stub.requests.length, 2);
  });

  const limits: [string, Trouble, number][] = [
    ["ten times again where it says when", answering(503, { "retry-after": "0" }), 11],
    ["twice again where it does not", answering(503), 3],
    ["twice again where connections are reset", reset, 3],
    ["never again where it is to be waited for longer than a minute", answering(429, { "retry-after": "61" }), 1],
    ["never again where 501 is all that it says", answering(501), 1],
    ["never again after 403", answering(403, { "retry-after": "0" }), 1],
  ];
  for (const [what, trouble, count] of limits) {
    it(`is asked ${what}, and then its answer is told`, async (t) => {
      const { cluster, stub } = await serveBusy(
        t,
        Array.from({ length: 20 }, () => trouble),
      );
      const asked =
        count === 1 ? /(?:returned \d+: busy)$/ : new RegExp(`(?:busy|hang up|RESET), asked ${count} times$`);
      await assert.rejects(cluster.getWorkload(name), { message: asked });
      assert.equal(stub.requests.length, count);
    });
  }

  it("is asked again where it refused the connection", async (t) => {
    const { host, requests } = await serve(t, (_request, response) => response.end("{}"));
    const kubeconfig = `${await folderOf(t, { kubeconfig: kubeconfigFor(host) })}/kubeconfig`;
    const config = { kubeconfig, context: undefined, fieldManager: "figwasp", restartAnnotation: "r" };
    let refusals = 1;
    const refusing: typeof fetch = (url, init) => {
      return refusals-- > 0 ? fetch("http://127.0.0.1:1/", { ...init, agents: undefined }) : fetch(url, init);
    };
    const { signal } = new AbortController();
    const cluster = await connectCluster(boundFetch(refusing, 5000, signal), config, { signal, pauseMs: 1 });
    await cluster.getWorkload(name);
    assert.equal(requests.length, 1);
  });

  it("is not waited for once the run has ended, and its answer is the reason", async (t) => {
    const stop = new AbortController();
    const busy = answering(429, { "retry-after": "30" });
    const trouble: Trouble = (response) => {
      busy(response);
      setTimeout(() => stop.abort(new Error("SIGTERM was received")), 50);
    };
    const { cluster, stub } = await serveBusy(t, [trouble], { signal: stop.signal });
    const beganMs = performance.now();
    const message = `GET ${path} returned 429: busy, asked once until SIGTERM was received`;
    await assert.rejects(cluster.getWorkload(name), { message, status: 429 });
    assert(performance.now() - beganMs < 5000);
    assert.equal(stub.requests.length, 1);
  });

  it("answers other requests while one waits to be sent again", async (t) => {
    const stop = new AbortController();
    const { cluster, stub } = await serveBusy(t, [answering(429, { "retry-after": "30" })], { signal: stop.signal });
    const waiting = assert.rejects(cluster.getWorkload(name), { status: 429 });
    await cluster.listWorkloads("daemonset", "shop", "");
    assert.equal(stub.requests.length, 2);
    stop.abort(new Error("enough"));
    await waiting;
  });
});

describe("a restart whose answer was lost", { concurrency: true }, () => {
  const annotations = { a: "1" };
  const object = (found: object) => ({
    metadata: { resourceVersion: "7" },
    spec: { template: { metadata: { annotations: found } } },
  });
  const conflict = answering(409);
  /** The first write is made as `found` says, and its answer is lost; a second one conflicts. */
  const losing = (method: string, found: object) => {
    let writes = 0;
    return (request: Recorded, response: ServerResponse) => {
      if (request.method === "PATCH" && method === "PUT") answering(403)(response);
      else if (request.method !== method) response.end(JSON.stringify(object(writes > 0 ? found : {})));
      else if (writes++ === 0) reset(response);
      else conflict(response);
      return true;
    };
  };
  const annotate = ({ cluster }: Busy) => cluster.annotateTemplate(aWorkload(), annotations, { isDryRun: false });

  for (const method of ["PATCH", "PUT"]) {
    it(`was made by ${method}, where its annotations are found`, async (t) => {
      const busy = await serveBusy(t, [], { answer: losing(method, annotations) });
      assert.deepEqual((await annotate(busy)).lostAnnotations, []);
      assert.equal(busy.stub.lines().filter((line) => line.startsWith(method)).length, 2);
    });

    it(`is a conflict with another's change, where ${method} left other annotations`, async (t) => {
      const busy = await serveBusy(t, [], { answer: losing(method, { a: "2" }) });
      await assert.rejects(annotate(busy), { status: 409 });
    });
  }

  it("is not looked for where the conflict is the first answer", async (t) => {
    const busy = await serveBusy(t, [conflict]);
    await assert.rejects(annotate(busy), { status: 409, message: `PATCH ${path} returned 409: busy` });
    assert.equal(busy.stub.requests.length, 1);
  });
});

/** A Deployment `api` whose tag has moved, on an API server that takes its PATCH. `lost`: how many answers to it are
 *  lost after it was made. */
async function serveOutdated(t: TestContext, { troubles = [] as Trouble[], lost = 0 } = {}) {
  const registry = await serveRegistry(t);
  registry.manifests.set("latest", imageOf("new"));
  const image = `${registry.host}/app:latest`;
  const state = { version: 7, annotations: {} as Record<string, string>, writes: 0 };
  const made = (uid: string, owner = "") => ({
    uid,
    ownerReferences: [{ uid: owner, controller: true }],
    annotations: { "deployment.kubernetes.io/revision": "1" },
    creationTimestamp: new Date().toISOString(),
  });
  const deployment = (annotations: object) => ({
    metadata: { name: "api", namespace: "shop", ...made("u1"), resourceVersion: `${state.version}`, generation: 1 },
    spec: {
      replicas: 1,
      selector: { matchLabels: { app: "api" } },
      template: { metadata: { annotations }, spec: { containers: [{ name: "app", image }] } },
    },
    status: { observedGeneration: 1 },
  });
  const pod = {
    metadata: { name: "p1", ...made("p1", "rs") },
    spec: { containers: [{ name: "app", image, imagePullPolicy: "Always" }] },
    status: {
      phase: "Running",
      containerStatuses: [
        { name: "app", imageID: `x/app@${sha256(imageOf("old").body)}`, containerID: "containerd://1" },
      ],
    },
  };
  const lists: Record<string, object> = {
    [path.replace("deployments/api", "replicasets")]: { items: [{ metadata: made("rs", "u1") }], metadata: {} },
    "/api/v1/namespaces/shop/pods": { items: [pod], metadata: {} },
    [path.replace("/api", "")]: { items: [deployment({})], metadata: {} },
  };
  let lostLeft = lost;
  const write = ({ body, path: asked }: Recorded, response: ServerResponse) => {
    const { metadata, spec } = JSON.parse(body) as ReturnType<typeof deployment>;
    const isDryRun = asked.includes("dryRun=All");
    if (state.writes > 0 && lostLeft > 0) return void (lostLeft-- && reset(response));
    if (metadata.resourceVersion !== `${state.version}`) return answering(409)(response);
    const annotations = { ...state.annotations, ...spec.template.metadata.annotations };
    if (!isDryRun) Object.assign(state, { annotations, version: state.version + 1, writes: state.writes + 1 });
    if (!isDryRun && lostLeft > 0) return void (lostLeft-- && reset(response));
    response.end(JSON.stringify(deployment(annotations)));
  };
  const left = [...troubles];
  const stub = await serve(t, (request, response) => {
    const trouble = left.shift();
    if (trouble) return trouble(response);
    if (request.method === "PATCH") return write(request, response);
    const asked = request.path.replace(/\?.*/, "");
    response.end(JSON.stringify(asked === path ? deployment(state.annotations) : (lists[asked] ?? {})));
  });
  return { stub, state, kubeconfig: `${await folderOf(t, { kubeconfig: kubeconfigFor(stub.host) })}/kubeconfig` };
}

async function runIn(kubeconfig: string, env: Record<string, string> = {}, ...argv: string[]) {
  const lines: string[] = [];
  const outside = {
    fetch,
    connect: connectCluster,
    now: () => new Date(),
    log: (line: string) => void lines.push(line),
  };
  const code = await main(
    ["--kubeconfig", kubeconfig, "api", ...argv],
    { FIGWASP_CERTS_DIR: "/nowhere", ...env },
    outside,
  );
  return { code, last: lines.at(-1) };
}

describe("a run against a busy API server", { concurrency: true }, () => {
  const restarted = { code: 0, last: "deployment shop/api: restarted, outdated: app" };

  it("restarts what is outdated, whatever the first answers were", async (t) => {
    const troubles = [answering(429, { "retry-after": "0" }), answering(503), reset];
    const { kubeconfig, state } = await serveOutdated(t, { troubles });
    assert.deepEqual(await runIn(kubeconfig), restarted);
    assert.equal(state.writes, 1);
  });

  it("has restarted once where the answer to its PATCH was lost, and says so", async (t) => {
    const { kubeconfig, state } = await serveOutdated(t, { lost: 1 });
    assert.deepEqual(await runIn(kubeconfig), restarted);
    assert.equal(state.writes, 1);
  });

  it("fails where every answer to its PATCH was lost, and the next run does not restart again", async (t) => {
    const { kubeconfig, state, stub } = await serveOutdated(t, { lost: 3 });
    const { code, last = "" } = await runIn(kubeconfig);
    assert.equal(code, 1);
    assert.match(last, /failed, Cannot restart deployment shop\/api: PATCH .* failed: .*, asked 3 times$/);
    assert.match((await runIn(kubeconfig)).last ?? "", /^deployment shop\/api: not converged, app was restarted for /);
    assert.equal(state.writes, 1);
    assert.equal(stub.lines().filter((line) => line.startsWith("PATCH")).length, 4);
  });

  it("ends within its deadline while it waits, with the API server's answer", async (t) => {
    const troubles = Array.from({ length: 20 }, () => answering(429, { "retry-after": "30" }));
    const { kubeconfig } = await serveOutdated(t, { troubles });
    const { code, last } = await runIn(kubeconfig, { FIGWASP_RUN_TIMEOUT: "300ms" });
    const answer = `GET ${path} returned 429: busy, asked once until the run has reached its deadline of 0.3 s`;
    const reason = `Cannot read deployment shop/api: ${answer}`;
    assert.deepEqual([code, last], [1, `deployment shop/api: failed, ${reason}`]);
  });
});
