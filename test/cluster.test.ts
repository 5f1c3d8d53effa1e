import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { fetch } from "undici";
import { ApiError, boundFetch, ConfigError, connectCluster } from "../figwasp.ts";
import { kubeconfigFor, serveApi, useKubeconfig } from "./support/api.ts";
import { folderOf } from "./support/registry.ts";

const apps = "/apis/apps/v1/namespaces/shop";
const connect = () => connectCluster(boundFetch(fetch, 5000, new AbortController().signal));
const controller = (uid: string) => ({ ownerReferences: [{ uid, controller: true }] });

describe("connectCluster()", () => {
  it("takes the namespace from the kubeconfig's context, and its token along", async (t) => {
    const stub = await serveApi(t, { [`GET ${apps}/replicasets`]: { items: [], metadata: {} } });
    const cluster = await connect();
    assert.equal(cluster.namespace, "shop");
    await cluster.listReplicaSets("shop", "app=api");
    assert.equal(stub.requests[0]?.headers.authorization, "Bearer api-token");
  });

  const unusable: [string, Record<string, string>, RegExp][] = [
    ["is not there", {}, /^Cannot find a cluster: ENOENT.*kubeconfig'$/],
    ["has no current context", { kubeconfig: "{}" }, /^Cannot find a cluster: a kubeconfig with a current context/],
    [
      "is plain http",
      { kubeconfig: kubeconfigFor("h").replace("insecure-skip-tls-verify", "x") },
      /HTTP protocol is not/,
    ],
  ];
  for (const [what, files, message] of unusable) {
    it(`refuses a kubeconfig that ${what}`, async (t) => {
      useKubeconfig(t, `${await folderOf(t, files)}/kubeconfig`);
      await assert.rejects(connect(), (error) => error instanceof ConfigError && message.test(error.message));
    });
  }

  it("gives the message of the API server for a refusal", async (t) => {
    const message = 'deployments.apps "api" is forbidden: User "figwasp" cannot get resource "deployments"';
    await serveApi(t, { [`GET ${apps}/deployments/api`]: { code: 403, message } });
    const expected = { status: 403, message: `GET ${apps}/deployments/api returned 403: ${message}` };
    await assert.rejects((await connect()).getDeployment("shop", "api"), (error) => {
      assert(error instanceof ApiError);
      assert.deepEqual({ status: error.status, message: error.message }, expected);
      return true;
    });
  });

  it("gives the status where a proxy in between answers", async (t) => {
    await serveApi(t, { [`GET ${apps}/deployments/api`]: { code: 502 } });
    await assert.rejects((await connect()).getDeployment("shop", "api"), { message: /returned 502: Bad Gateway$/ });
  });
});

describe("Cluster.getDeployment()", () => {
  const metadata = {
    name: "api",
    namespace: "shop",
    uid: "u1",
    resourceVersion: "7",
    generation: 3,
    annotations: { "deployment.kubernetes.io/revision": "12" },
  };
  const template = {
    spec: {
      initContainers: [{ name: "init", image: "busybox" }],
      containers: [{ name: "app", image: "api:1", other: "field" }],
    },
  };

  async function read(t: TestContext, changes: { spec?: object; status?: object } = {}) {
    const spec = { replicas: 2, selector: { matchLabels: { app: "api" } }, template, ...changes.spec };
    const status = { observedGeneration: 3, ...changes.status };
    await serveApi(t, { [`GET ${apps}/deployments/api`]: { metadata, spec, status } });
    return (await connect()).getDeployment("shop", "api");
  }

  it("keeps what the judge needs", async (t) => {
    assert.deepEqual(await read(t), {
      kind: "deployment",
      namespace: "shop",
      name: "api",
      uid: "u1",
      resourceVersion: "7",
      isObserved: true,
      isPaused: false,
      replicas: 2,
      selector: "app=api",
      revision: "12",
      containers: [
        { name: "init", image: "busybox" },
        { name: "app", image: "api:1" },
      ],
    });
  });

  it("sees that the controller is behind, and that it is paused", async (t) => {
    const workload = await read(t, { spec: { paused: true, replicas: 0 }, status: { observedGeneration: 2 } });
    const { isObserved, isPaused, replicas } = workload;
    assert.deepEqual({ isObserved, isPaused, replicas }, { isObserved: false, isPaused: true, replicas: 0 });
  });

  it("writes every operator of a selector as the API asks for it", async (t) => {
    const matchExpressions = [
      { key: "tier", operator: "In", values: ["a", "b"] },
      { key: "env", operator: "NotIn", values: ["dev"] },
      { key: "x", operator: "Exists" },
      { key: "y", operator: "DoesNotExist" },
    ];
    const { selector } = await read(t, { spec: { selector: { matchLabels: { app: "api" }, matchExpressions } } });
    assert.equal(selector, "app=api,tier in (a,b),env notin (dev),x,!y");
  });
});

describe("Cluster.listPods()", () => {
  it("joins spec and status by name, in containers and init containers", async (t) => {
    const pod = {
      metadata: { name: "p1", ...controller("rs1"), deletionTimestamp: "2026-11-21T00:00:00Z" },
      spec: {
        initContainers: [{ name: "init", imagePullPolicy: "IfNotPresent" }],
        containers: [
          { name: "a", imagePullPolicy: "Always" },
          { name: "b", imagePullPolicy: "Always" },
        ],
      },
      status: {
        phase: "Running",
        initContainerStatuses: [{ name: "init", imageID: "i" }],
        containerStatuses: [{ name: "b", imageID: "of b" }],
      },
    };
    await serveApi(t, { "GET /api/v1/namespaces/shop/pods": { items: [pod], metadata: {} } });
    assert.deepEqual(await (await connect()).listPods("shop", "app=api"), [
      {
        name: "p1",
        ownerUid: "rs1",
        isTerminating: true,
        phase: "Running",
        containers: [
          { name: "init", pullPolicy: "IfNotPresent", imageID: "i" },
          { name: "a", pullPolicy: "Always", imageID: "" },
          { name: "b", pullPolicy: "Always", imageID: "of b" },
        ],
      },
    ]);
  });

  it("reads page after page", async (t) => {
    const page = (path: string) => {
      const query = new URLSearchParams(path.split("?")[1]);
      const isFirst = query.get("continue") === "";
      assert.equal(query.get("labelSelector"), "app=api");
      return { items: [{ metadata: { name: isFirst ? "p1" : "p2" } }], metadata: isFirst ? { continue: "more" } : {} };
    };
    const stub = await serveApi(t, { "GET /api/v1/namespaces/shop/pods": page });
    const pods = await (await connect()).listPods("shop", "app=api");
    assert.deepEqual(
      pods.map(({ name }) => name),
      ["p1", "p2"],
    );
    assert.equal(stub.requests.length, 2);
  });
});

describe("Cluster.listReplicaSets()", () => {
  it("asks for metadata alone", async (t) => {
    const annotations = { "deployment.kubernetes.io/revision": "2" };
    const items = [{ metadata: { uid: "rs1", annotations, ...controller("u1") } }];
    const stub = await serveApi(t, { [`GET ${apps}/replicasets`]: { items, metadata: {} } });
    const found = await (await connect()).listReplicaSets("shop", "app=api");
    assert.deepEqual(found, [{ uid: "rs1", ownerUid: "u1", revision: "2" }]);
    assert.match(stub.requests[0]?.headers.accept ?? "", /as=PartialObjectMetadataList/);
  });
});

describe("Cluster.patchDeployment()", () => {
  it("sends a strategic-merge PATCH as field manager figwasp", async (t) => {
    const stub = await serveApi(t, { [`PATCH ${apps}/deployments/api`]: {} });
    await (await connect()).patchDeployment("shop", "api", { a: 1 });
    const [{ path, headers, body } = assert.fail()] = stub.requests;
    assert.equal(path, `${apps}/deployments/api?fieldManager=figwasp`);
    assert.equal(headers["content-type"], "application/strategic-merge-patch+json");
    assert.equal(body, '{"a":1}');
  });
});
