import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { describe, it, type TestContext } from "node:test";
import { connectCluster } from "../figwasp.ts";
import { fetch } from "../lib/http/fetch.ts";
import { boundFetch } from "../lib/http/transport.ts";
import type { Cluster } from "../lib/kubernetes/cluster.ts";
import { kubeconfigFor } from "./support/api.ts";
import { aWorkload } from "./support/cluster.ts";
import { folderOf } from "./support/registry.ts";
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
