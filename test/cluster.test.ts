import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { connectCluster, currentPods } from "../figwasp.ts";
import { kinds, type Pod, type Workload } from "../lib/kubernetes/objects.ts";
import { ConfigError, HttpError } from "../lib/errors.ts";
import { fetch } from "../lib/http/fetch.ts";
import { boundFetch } from "../lib/http/transport.ts";
import { type ClusterConfig, readServiceAccount } from "../lib/kubernetes/connection.ts";
import type { Kind } from "../lib/kubernetes/objects.ts";
import { kubeconfigFor, serveApi, useKubeconfig } from "./support/api.ts";
import { aWorkload } from "./support/cluster.ts";
import { folderOf } from "./support/registry.ts";
import { serve } from "./support/serve.ts";

const apps = "/apis/apps/v1/namespaces/shop";
const connect = (where: Partial<ClusterConfig> = {}) => {
  const given = {
    kubeconfig: undefined,
    context: undefined,
    fieldManager: "figwasp",
    restartAnnotation: "restarted/at",
    ...where,
  };
  return connectCluster(boundFetch(fetch, 5000, new AbortController().signal), given, { pauseMs: 1 });
};
const controller = (uid: string) => ({ ownerReferences: [{ uid, controller: true }] });

describe("connectCluster()", () => {
  it("takes the kubeconfig and the context that are named", async (t) => {
    const stub = await serveApi(t, { [`GET ${apps}/deployments/api`]: { metadata: { name: "api" } } });
    const contexts = [
      { name: "other", context: { cluster: "none", user: "stub", namespace: "elsewhere" } },
      { name: "named", context: { cluster: "stub", user: "stub", namespace: "there" } },
    ];
    const config = { ...(JSON.parse(kubeconfigFor(stub.host)) as object), contexts, "current-context": "other" };
    const kubeconfig = `${await folderOf(t, { named: JSON.stringify(config) })}/named`;
    const cluster = await connect({ kubeconfig, context: "named" });
    assert.equal(cluster.namespace, "there");
    assert.equal((await cluster.getWorkload({ kind: "deployment", namespace: "shop", name: "api" })).name, "api");
    await assert.rejects(connect({ kubeconfig, context: "nmaed" }), {
      message: 'Cannot find context "nmaed": one of other, named is needed',
    });
    await assert.rejects(connect({ kubeconfig: "/nowhere" }), { message: /^Cannot read the kubeconfig "\/nowhere": / });
  });

  it("takes the namespace from the kubeconfig's context, and its token along", async (t) => {
    const stub = await serveApi(t, { [`GET ${apps}/deployments`]: { items: [], metadata: {} } });
    const cluster = await connect();
    assert.equal(cluster.namespace, "shop");
    await cluster.listWorkloads("deployment", "shop", "app=api");
    assert.equal(stub.requests[0]?.headers.authorization, "Bearer api-token");
  });

  const unusable: [string, Record<string, string>, RegExp][] = [
    ["is not there", {}, /^Cannot read the kubeconfig: ENOENT.*kubeconfig'$/],
    ["has no current context", { kubeconfig: "{}" }, /^Cannot find a cluster: a kubeconfig with a current context/],
  ];
  for (const [what, files, message] of unusable) {
    it(`refuses a kubeconfig that ${what}`, async (t) => {
      useKubeconfig(t, `${await folderOf(t, files)}/kubeconfig`);
      await assert.rejects(connect(), (error) => error instanceof ConfigError && message.test(error.message));
    });
  }

  it("shows nothing of a kubeconfig that is not YAML", async (t) => {
    const kubeconfig = "users:\n- name: a\n  user:\n    token: s3cret-t0ken\n   x: y\n";
    useKubeconfig(t, `${await folderOf(t, { kubeconfig })}/kubeconfig`);
    await assert.rejects(connect(), ({ message }: Error) => {
      assert.doesNotMatch(message, /s3cret|\n/);
      return message.startsWith("Cannot read the kubeconfig: ");
    });
  });

  it("refuses to send a token over plain http", async (t) => {
    const kubeconfig = kubeconfigFor("h").replace("insecure-skip-tls-verify", "x");
    useKubeconfig(t, `${await folderOf(t, { kubeconfig })}/kubeconfig`);
    const message = /^Cannot authenticate as the kubeconfig says: HTTP protocol is not allowed/;
    await assert.rejects(
      connect(),
      (error) => !(error instanceof ConfigError) && message.test((error as Error).message),
    );
  });

  it("gives the message of the API server for a refusal", async (t) => {
    const message = 'deployments.apps "api" is forbidden: User "figwasp" cannot get resource "deployments"';
    await serveApi(t, { [`GET ${apps}/deployments/api`]: { code: 403, message } });
    const expected = { status: 403, message: `GET ${apps}/deployments/api returned 403: ${message}` };
    await assert.rejects(
      (await connect()).getWorkload({ kind: "deployment", namespace: "shop", name: "api" }),
      (error) => {
        assert(error instanceof HttpError);
        assert.deepEqual({ status: error.status, message: error.message }, expected);
        return true;
      },
    );
  });

  it("gives each question its deadline from its own turn on", { timeout: 20_000 }, async (t) => {
    const object = { metadata: { name: "api" } };
    const stub = await serve(t, (_request, response) => {
      setTimeout(() => response.writeHead(200).end(JSON.stringify(object)), 50);
    });
    useKubeconfig(t, `${await folderOf(t, { kubeconfig: kubeconfigFor(stub.host) })}/kubeconfig`);
    const given = { kubeconfig: undefined, context: undefined, fieldManager: "figwasp", restartAnnotation: "r" };
    const cluster = await connectCluster(boundFetch(fetch, 1000, new AbortController().signal), given);
    // Together the requests take longer than the deadline of one.
    const asked = Array.from({ length: 30 }, () =>
      cluster.getWorkload({ kind: "deployment", namespace: "shop", name: "api" }),
    );
    assert.equal((await Promise.all(asked)).length, 30);
    assert.equal(stub.connections(), 1);
  });

  it("fails with what was asked where a proxy in between answers well, with a page of its own", async (t) => {
    for (const [body, what] of Object.entries({ "<html>": "no JSON object", "{}": "no list" })) {
      const stub = await serve(t, (_request, response) => response.end(body));
      useKubeconfig(t, `${await folderOf(t, { kubeconfig: kubeconfigFor(stub.host) })}/kubeconfig`);
      const asked = (await connect()).listWorkloads("deployment", "shop", "");
      await assert.rejects(asked, { message: `GET ${apps}/deployments returned ${what}` });
    }
  });

  it("gives the status where a proxy in between answers", async (t) => {
    await serveApi(t, { [`GET ${apps}/deployments/api`]: { code: 502 } });
    await assert.rejects((await connect()).getWorkload({ kind: "deployment", namespace: "shop", name: "api" }), {
      message: /returned 502: Bad Gateway, asked 3 times$/,
    });
  });
});

describe("readServiceAccount()", () => {
  const files = { token: "s3cret\n", "ca.crt": "a CA", namespace: "shop\n" };
  const env = { KUBERNETES_SERVICE_HOST: "10.96.0.1", KUBERNETES_SERVICE_PORT: "443" };

  it("takes what the kubelet gives a pod", async (t) => {
    const { server, namespace, headers } = readServiceAccount(await folderOf(t, files), env) ?? assert.fail();
    assert.deepEqual([server, namespace], ["https://10.96.0.1:443", "shop"]);
    assert.deepEqual(headers, { authorization: "Bearer s3cret" });
    const other = readServiceAccount(await folderOf(t, files), { ...env, KUBERNETES_SERVICE_HOST: "fd00::1" });
    assert.equal(other?.server, "https://[fd00::1]:443");
  });

  it("is undefined where there is no token, and throws a ConfigError where there is half of it", async (t) => {
    assert.equal(readServiceAccount("/nowhere", env), undefined);
    const folder = await folderOf(t, { token: "s3cret" });
    const isConfigError = (error: Error) =>
      error instanceof ConfigError && /^Cannot use the ServiceAccount in .*ENOENT/.test(error.message);
    assert.throws(() => readServiceAccount(folder, env), isConfigError);
    assert.throws(() => readServiceAccount(folder, {}), ConfigError);
  });
});

describe("Cluster.getWorkload()", () => {
  const metadata = { name: "api", namespace: "shop", uid: "u1", resourceVersion: "7", generation: 3 };
  const template = {
    metadata: { annotations: { a: "b" } },
    spec: {
      initContainers: [{ name: "init", image: "busybox" }],
      containers: [{ name: "app", image: "api:1", other: "field" }],
    },
  };

  interface Changes {
    deletionTimestamp?: string;
    labels?: object;
    annotations?: object;
    spec?: object;
    status?: object;
  }
  async function read(t: TestContext, kind: Kind, changes: Changes = {}): Promise<Workload> {
    const spec = { replicas: 2, selector: { matchLabels: { app: "api" } }, template, ...changes.spec };
    const status = { observedGeneration: 3, ...changes.status };
    const object = {
      metadata: {
        ...metadata,
        labels: changes.labels,
        annotations: changes.annotations,
        deletionTimestamp: changes.deletionTimestamp,
      },
      spec,
      status,
    };
    await serveApi(t, { [`GET ${apps}/${kind}s/api`]: object });
    return (await connect()).getWorkload({ kind, namespace: "shop", name: "api" });
  }

  it("keeps of a Deployment what the judge needs", async (t) => {
    assert.deepEqual(await read(t, "deployment", { annotations: { "deployment.kubernetes.io/revision": "12" } }), {
      kind: "deployment",
      namespace: "shop",
      name: "api",
      uid: "u1",
      resourceVersion: "7",
      isDeleted: false,
      isObserved: true,
      isPaused: false,
      isOnDelete: false,
      replicas: 2,
      partition: 0,
      rollout: { isComplete: false, progress: "0 of 2 pods updated, 0 available", failure: undefined },
      obstacle: undefined,
      selector: "app=api",
      revision: "12",
      revisionHistoryLimit: 10,
      templateAnnotations: { a: "b" },
      templateManagers: [],
      metadataKeys: ["deployment.kubernetes.io/revision"],
      ownLabels: {},
      ownAnnotations: {},
      containers: [
        { name: "init", image: "busybox" },
        { name: "app", image: "api:1" },
      ],
      imageVolumes: [],
    });
  });

  it("keeps the images of volumes that a push can move", async (t) => {
    const image = (reference?: string) => ({ image: { reference } });
    const volumes = [
      { name: "model", ...image("ghcr.io/acme/model:latest") },
      { name: "pinned", ...image(`ghcr.io/acme/model@sha256:${"0".repeat(64)}`) },
      { name: "none", ...image() },
      { name: "config", configMap: { name: "c" } },
    ];
    const { imageVolumes } = await read(t, "deployment", { spec: { template: { spec: { containers: [], volumes } } } });
    assert.deepEqual(imageVolumes, [{ name: "model", image: "ghcr.io/acme/model:latest" }]);
  });

  it("keeps the keys of its own labels and annotations, by which tools mark what they apply", async (t) => {
    const changes = { labels: { "kustomize.toolkit.fluxcd.io/name": "x" }, annotations: { "argocd/x": "y" } };
    assert.deepEqual((await read(t, "daemonset", changes)).metadataKeys, [
      "kustomize.toolkit.fluxcd.io/name",
      "argocd/x",
    ]);
  });

  it("sees that the controller is behind, and that it is paused", async (t) => {
    const changes = { spec: { paused: true, replicas: 0 }, status: { observedGeneration: 2 } };
    const { isObserved, isPaused, replicas } = await read(t, "deployment", changes);
    assert.deepEqual({ isObserved, isPaused, replicas }, { isObserved: false, isPaused: true, replicas: 0 });
  });

  it("sees that it is being deleted, which a finalizer may hold up", async (t) => {
    assert((await read(t, "daemonset", { deletionTimestamp: "2026-11-21T00:00:00Z" })).isDeleted);
  });

  it("sees a controller that is ahead of what was read", async (t) => {
    assert((await read(t, "deployment", { status: { observedGeneration: 4 } })).isObserved);
  });

  it("reads the revision of a StatefulSet from its status, and OnDelete from its strategy", async (t) => {
    const changes = { spec: { updateStrategy: { type: "OnDelete" } }, status: { updateRevision: "api-6d5" } };
    const { revision, isOnDelete } = await read(t, "statefulset", changes);
    assert.deepEqual({ revision, isOnDelete }, { revision: "api-6d5", isOnDelete: true });
  });

  it("takes no notice of a Deployment's annotation on a StatefulSet", async (t) => {
    const annotations = { "deployment.kubernetes.io/revision": "3" };
    const { revision } = await read(t, "statefulset", { annotations, status: { updateRevision: "api-6d5" } });
    assert.equal(revision, "api-6d5");
  });

  const rollouts: [string, Kind, object, object, boolean, string][] = [
    ["done", "deployment", {}, { replicas: 2, updatedReplicas: 2, availableReplicas: 2 }, true, "2 of 2 pods updated"],
    ["behind", "deployment", {}, { replicas: 3, updatedReplicas: 1 }, false, "1 of 2 pods updated, 0 available, 2 old"],
    [
      "not rid of old pods",
      "deployment",
      {},
      { replicas: 3, updatedReplicas: 2, availableReplicas: 2 },
      false,
      "1 old",
    ],
    ["done", "statefulset", {}, { replicas: 2, updatedReplicas: 2, readyReplicas: 2 }, true, "2 of 2"],
    [
      "done, by a status of before",
      "deployment",
      {},
      { replicas: 1, updatedReplicas: 2, availableReplicas: 2 },
      true,
      "2",
    ],
    ["not ready", "statefulset", {}, { replicas: 2, updatedReplicas: 2, readyReplicas: 1 }, false, "1 available"],
    [
      "done up to its partition",
      "statefulset",
      { updateStrategy: { rollingUpdate: { partition: 1 } } },
      { replicas: 2, updatedReplicas: 1, readyReplicas: 2 },
      true,
      "1 of 2 pods updated, 2 available",
    ],
    [
      "done",
      "daemonset",
      {},
      { desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 3 },
      true,
      "3 of 3 pods updated, 3 available",
    ],
    ["behind", "daemonset", {}, { desiredNumberScheduled: 3, updatedNumberScheduled: 1 }, false, "1 of 3"],
  ];
  for (const [what, kind, spec, status, isComplete, progress] of rollouts) {
    it(`sees that the rollout of a ${kind} is ${what}`, async (t) => {
      const { rollout } = await read(t, kind, { spec, status: { observedGeneration: 3, ...status } });
      assert.equal(rollout.isComplete, isComplete);
      assert(rollout.progress.includes(progress), rollout.progress);
    });
  }

  it("sees that the controller has given a rollout up, and not that of an older template", async (t) => {
    const conditions = [{ type: "Progressing", reason: "ProgressDeadlineExceeded" }];
    const { rollout } = await read(t, "deployment", { status: { observedGeneration: 3, conditions } });
    assert.equal(rollout.failure, "it has exceeded its progress deadline");
    const older = await read(t, "deployment", { status: { observedGeneration: 2, conditions } });
    assert.deepEqual([older.rollout.failure, older.rollout.isComplete], [undefined, false]);
  });

  it("keeps what the controller says that it cannot do, in all its words", async (t) => {
    const conditions = [
      { type: "Progressing", status: "False", reason: "ProgressDeadlineExceeded", message: "has timed out" },
      { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: "pods are forbidden: exceeded quota" },
      { type: "Available", status: "False", reason: "MinimumReplicasUnavailable", message: "no minimum" },
    ];
    const obstacleOf = async (status: object) => (await read(t, "deployment", { status })).obstacle;
    const all = await obstacleOf({ observedGeneration: 3, conditions });
    assert.equal(all, "it has exceeded its progress deadline; pods are forbidden: exceeded quota");
    const moving = { type: "Progressing", status: "True", reason: "ReplicaSetUpdated" };
    const slow = [moving, ...conditions.slice(1)];
    assert.equal(await obstacleOf({ observedGeneration: 3, conditions: slow, updatedReplicas: 1 }), undefined);
    const none = await obstacleOf({ observedGeneration: 3, conditions: slow, updatedReplicas: 0 });
    assert.equal(none, "pods are forbidden: exceeded quota");
    const created = { type: "Progressing", status: "False", reason: "ReplicaSetCreateError", message: "no ReplicaSet" };
    assert.equal(await obstacleOf({ observedGeneration: 3, conditions: [created] }), "no ReplicaSet");
    assert.equal(await obstacleOf({ observedGeneration: 2, conditions }), undefined);
    assert.equal(await obstacleOf({ observedGeneration: 2, conditions: [created] }), "no ReplicaSet");
    const over = [{ type: "ReplicaFailure", status: "False", message: "over" }];
    assert.equal(await obstacleOf({ observedGeneration: 3, conditions: over }), undefined);
  });

  it("counts the nodes that a DaemonSet wants", async (t) => {
    const { replicas } = await read(t, "daemonset", { status: { desiredNumberScheduled: 3 } });
    assert.equal(replicas, 3);
  });

  it("writes every operator of a selector as the API asks for it", async (t) => {
    const matchExpressions = [
      { key: "tier", operator: "In", values: ["a", "b"] },
      { key: "env", operator: "NotIn", values: ["dev"] },
      { key: "x", operator: "Exists" },
      { key: "y", operator: "DoesNotExist" },
    ];
    const { selector } = await read(t, "deployment", {
      spec: { selector: { matchLabels: { app: "api" }, matchExpressions } },
    });
    assert.equal(selector, "app=api,tier in (a,b),env notin (dev),x,!y");
  });
});

describe("Cluster.listWorkloads()", () => {
  it("looks in one namespace or in all, by labels", async (t) => {
    const items = [{ metadata: { name: "db", namespace: "other" } }];
    const stub = await serveApi(t, {
      [`GET ${apps}/statefulsets`]: { items: [], metadata: {} },
      "GET /apis/apps/v1/statefulsets": { items, metadata: {} },
    });
    const cluster = await connect();
    assert.deepEqual(await cluster.listWorkloads("statefulset", "shop", "a=b"), []);
    const [found] = await cluster.listWorkloads("statefulset", undefined, "");
    assert.deepEqual([found?.kind, found?.namespace, found?.name], ["statefulset", "other", "db"]);
    assert.match(stub.requests[0]?.path ?? "", /labelSelector=a%3Db&/);
  });

  const pages = (answer: (token: string) => object) => (path: string) => {
    return answer(new URLSearchParams(path.split("?")[1]).get("continue") ?? "");
  };
  const page = (name: string, next?: string) => ({ items: [{ metadata: { name } }], metadata: { continue: next } });

  it("reads page after page", async (t) => {
    const answer = pages((token) => (token === "" ? page("a", "more") : page("b")));
    const stub = await serveApi(t, { [`GET ${apps}/deployments`]: answer });
    const found = await (await connect()).listWorkloads("deployment", "shop", "");
    assert.deepEqual(
      found.map(({ name }) => name),
      ["a", "b"],
    );
    assert(stub.requests.every(({ path }) => path.includes("limit=500")));
  });

  it("takes null for an empty list, as the API server writes one of metadata alone", async (t) => {
    await serveApi(t, { [`GET ${apps}/deployments`]: { items: null, metadata: {} } });
    assert.deepEqual(await (await connect()).listWorkloads("deployment", "shop", ""), []);
  });

  it("starts over when the list has expired in the middle", async (t) => {
    let expired = 0;
    const answer = pages((token) => {
      if (token === "") return page("a", "more");
      return expired++ === 0 ? { code: 410, message: "too old" } : page("b");
    });
    await serveApi(t, { [`GET ${apps}/deployments`]: answer });
    const found = await (await connect()).listWorkloads("deployment", "shop", "");
    assert.deepEqual(
      found.map(({ name }) => name),
      ["a", "b"],
    );
  });

  it("gives up on a list that goes on expiring", async (t) => {
    const answer = pages((token) => (token === "" ? page("a", "more") : { code: 410, message: "too old" }));
    const stub = await serveApi(t, { [`GET ${apps}/deployments`]: answer });
    await assert.rejects((await connect()).listWorkloads("deployment", "shop", ""), { status: 410 });
    assert.equal(stub.requests.length, 6);
  });
});

describe("Cluster.readOwnedObjects() and currentPods()", () => {
  const readCurrent = async (changes: Partial<Workload>) => {
    const workload = aWorkload({ uid: "u1", ...changes });
    return currentPods(workload, await (await connect()).readOwnedObjects(workload));
  };
  const namesOf = (pods: Pod[]) => pods.map(({ name }) => name);
  const list = (...items: object[]) => ({ items, metadata: {} });
  const pods = "GET /api/v1/namespaces/shop/pods";
  const pod = (name: string, owner: string, hash?: string) => {
    return { metadata: { name, ...controller(owner), labels: { "controller-revision-hash": hash } } };
  };
  const replicaSet = (uid: string, owner: string, revision: string) => {
    return { metadata: { uid, annotations: { "deployment.kubernetes.io/revision": revision }, ...controller(owner) } };
  };

  it("takes those of the ReplicaSet of the Deployment's revision, which is found by metadata alone", async (t) => {
    const stub = await serveApi(t, {
      [`GET ${apps}/replicasets`]: list(
        replicaSet("rs1", "u1", "1"),
        replicaSet("rs3", "u3", "2"),
        replicaSet("rs2", "u1", "2"),
      ),
      [pods]: list(pod("old", "rs1"), pod("new", "rs2"), pod("other", "rs3"), pod("nobody's", "")),
    });
    assert.deepEqual(namesOf(await readCurrent({ revision: "2" })), ["new"]);
    assert.deepEqual(stub.lines(), [`GET ${apps}/replicasets`, pods]);
    const metadataAlone = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    assert.equal(stub.requests[0]?.headers.accept, metadataAlone);
    assert(stub.requests.every(({ path }) => path.includes("labelSelector=app%3Dapi&")));
    assert.deepEqual(namesOf(await readCurrent({ revision: "3" })), []);
  });

  it("takes none where nothing says which ReplicaSet or revision is the newest", async (t) => {
    const bare = { metadata: { uid: "rs1", ...controller("u1") } };
    await serveApi(t, { [`GET ${apps}/replicasets`]: list(bare), [pods]: list(pod("a", "rs1"), pod("b", "u1")) });
    assert.deepEqual(namesOf(await readCurrent({ revision: "" })), []);
    assert.deepEqual(namesOf(await readCurrent({ kind: "statefulset", revision: "" })), []);
  });

  it("gives the error of a list to the kind that needs it, and to no other", async (t) => {
    await serveApi(t, {
      [`GET ${apps}/controllerrevisions`]: { code: 403, message: "no" },
      [pods]: list(pod("a", "u2", "db-1")),
    });
    await assert.rejects(readCurrent({ kind: "daemonset" }), {
      message: `GET ${apps}/controllerrevisions returned 403: no`,
    });
    assert.deepEqual(namesOf(await readCurrent({ kind: "statefulset", uid: "u2", revision: "db-1" })), ["a"]);
  });

  it("takes those of the revision that a StatefulSet names", async (t) => {
    const stub = await serveApi(t, {
      [pods]: list(pod("old", "u1", "api-1"), pod("new", "u1", "api-2"), pod("other", "u2", "api-2")),
    });
    assert.deepEqual(namesOf(await readCurrent({ kind: "statefulset", revision: "api-2" })), ["new"]);
    assert.deepEqual(namesOf(await readCurrent({ kind: "statefulset", revision: "" })), []);
    assert.deepEqual(stub.lines(), [pods, pods]);
  });

  it("takes those of the highest ControllerRevision of a DaemonSet, which after an undo is not the youngest", async (t) => {
    const item = (hash: string, owner: string, revision: number) => {
      return { metadata: { labels: { "controller-revision-hash": hash }, ...controller(owner) }, revision };
    };
    const stub = await serveApi(t, {
      [`GET ${apps}/controllerrevisions`]: list(item("aaa", "u1", 3), item("bbb", "u1", 2), item("ccc", "other", 9)),
      [pods]: list(pod("new", "u1", "aaa"), pod("old", "u1", "bbb"), pod("other", "u1", "ccc")),
    });
    assert.deepEqual(namesOf(await readCurrent({ kind: "daemonset", revision: "" })), ["new"]);
    assert(stub.requests.every(({ path }) => path.includes("labelSelector=app%3Dapi&")));
  });

  /** What lists give: so many Deployments, and one workload of each other kind. */
  const listsOf = (deployments: number) => {
    const deployment = (number: number) => {
      const revision = { "deployment.kubernetes.io/revision": "1" };
      return { metadata: { uid: `u${number}`, name: `d${number}`, namespace: "shop", annotations: revision }, spec };
    };
    const spec = { selector: { matchLabels: { app: "api" } } };
    const other = { metadata: { uid: "db", name: "db", namespace: "shop" }, spec, status: { updateRevision: "db-1" } };
    const names = Array.from({ length: deployments }, (_item, number) => number);
    return {
      [`GET ${apps}/deployments`]: list(...names.map(deployment)),
      [`GET ${apps}/statefulsets`]: list(other),
      [`GET ${apps}/daemonsets`]: list({ ...other, metadata: { ...other.metadata, uid: "ds" } }),
    };
  };

  it("reads each list once for workloads of all kinds, where eight of a namespace were listed", async (t) => {
    const stub = await serveApi(t, {
      ...listsOf(6),
      [`GET ${apps}/replicasets`]: list(...[0, 1, 2, 3, 4, 5].map((n) => replicaSet(`rs${n}`, `u${n}`, "1"))),
      [`GET ${apps}/controllerrevisions`]: list({
        metadata: { labels: { "controller-revision-hash": "ds-1" }, ...controller("ds") },
        revision: 1,
      }),
      [pods]: list(pod("a", "rs0"), pod("b", "rs5"), pod("c", "db", "db-1"), pod("d", "ds", "ds-1")),
    });
    const cluster = await connect();
    const lists = kinds.map((kind) => cluster.listWorkloads(kind, "shop", ""));
    const workloads = (await Promise.all(lists)).flat();
    const reads = workloads.map(async (workload) => {
      return [workload.uid, namesOf(currentPods(workload, await cluster.readOwnedObjects(workload)))].flat();
    });
    const found = await Promise.all(reads);
    assert.deepEqual(found, [["u0", "a"], ["u1"], ["u2"], ["u3"], ["u4"], ["u5", "b"], ["db", "c"], ["ds", "d"]]);
    const owned = stub.requests.slice(3);
    assert.deepEqual(new Set(owned.map(({ path }) => path.split("?")[0])).size, 3);
    assert.equal(owned.length, 3);
    assert(owned.every(({ path }) => path.includes("labelSelector=&")));

    // All of them have been read, and so the lists are kept no longer. Read again by its name, or once more as it was
    // listed, a workload is looked at by itself.
    const [first = assert.fail()] = workloads;
    await cluster.readOwnedObjects(first);
    const again = aWorkload({ uid: "u0", revision: "1" });
    assert.deepEqual(namesOf(currentPods(again, await cluster.readOwnedObjects(again))), ["a"]);
    assert.equal(stub.requests.length, 10);
    assert(stub.requests.slice(6).every(({ path }) => path.includes("labelSelector=app%3Dapi&")));
  });

  it("reads the pods of each workload by its selector, where fewer than eight of a namespace were listed", async (t) => {
    const stub = await serveApi(t, { ...listsOf(7), [`GET ${apps}/replicasets`]: list(), [pods]: list() });
    const cluster = await connect();
    const workloads = await cluster.listWorkloads("deployment", "shop", "");
    for (const workload of workloads) await cluster.readOwnedObjects(workload);
    const owned = stub.requests.slice(1);
    assert.equal(owned.length, 14);
    assert(owned.every(({ path }) => path.includes("labelSelector=app%3Dapi&")));
  });

  it("asks once for a shared list that may not be read, and gives its error to each", async (t) => {
    const forbidden = { code: 403, message: "forbidden" };
    const stub = await serveApi(t, { ...listsOf(8), [`GET ${apps}/replicasets`]: list(), [pods]: forbidden });
    const cluster = await connect();
    const workloads = await cluster.listWorkloads("deployment", "shop", "");
    for (const workload of workloads) {
      await assert.rejects(cluster.readOwnedObjects(workload), {
        status: 403,
        message: /pods returned 403: forbidden$/,
      });
    }
    assert.deepEqual(stub.lines().slice(1), [`GET ${apps}/replicasets`, pods]);
  });

  it("joins spec and status by name, in containers and init containers", async (t) => {
    const full = {
      metadata: {
        name: "p1",
        ...controller("u1"),
        labels: { "controller-revision-hash": "api-1" },
        creationTimestamp: "2026-11-20T00:00:00Z",
        deletionTimestamp: "2026-11-21T00:00:00Z",
      },
      spec: {
        imagePullSecrets: [{ name: "pull" }, { name: "" }, {}],
        initContainers: [{ name: "init", image: "i:1", imagePullPolicy: "IfNotPresent" }],
        containers: [
          { name: "a", image: "a:1", imagePullPolicy: "Always" },
          { name: "b", image: "b:1", imagePullPolicy: "Always" },
        ],
      },
      status: {
        phase: "Running",
        initContainerStatuses: [{ name: "init", imageID: "i" }],
        containerStatuses: [{ name: "b", imageID: "of b", containerID: "cri-o://7" }],
        ephemeralContainerStatuses: [{ name: "a", imageID: "of nobody" }],
      },
    };
    await serveApi(t, { [pods]: list(full) });
    assert.deepEqual(await readCurrent({ kind: "statefulset", revision: "api-1" }), [
      {
        name: "p1",
        createdAtMs: Date.parse("2026-11-20T00:00:00Z"),
        ownerUid: "u1",
        revisionHash: "api-1",
        isTerminating: true,
        phase: "Running",
        node: "",
        unreadySinceMs: undefined,
        pullSecrets: ["pull"],
        containers: [
          { name: "init", image: "i:1", pullPolicy: "IfNotPresent", imageID: "i", runtime: "" },
          { name: "a", image: "a:1", pullPolicy: "Always", imageID: "", runtime: "" },
          { name: "b", image: "b:1", pullPolicy: "Always", imageID: "of b", runtime: "cri-o" },
        ],
      },
    ]);
  });
});

describe("Cluster.getSecret()", () => {
  const path = "/api/v1/namespaces/shop/secrets";
  const read = async (name = "pull") => (await connect()).getSecret("shop", name);
  const secret = (type: string, key: string) => ({ type, data: { [key]: Buffer.from("{}").toString("base64") } });
  const forbidden = { code: 403, message: "secrets is forbidden" };

  const forms: [string, string, string, boolean][] = [
    ["a docker config", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", true],
    ["its older form", "kubernetes.io/dockercfg", ".dockercfg", true],
    ["a key that does not fit its type", "kubernetes.io/dockerconfigjson", ".dockercfg", false],
    ["another type", "Opaque", ".dockerconfigjson", false],
  ];
  for (const [what, type, key, isUsed] of forms) {
    it(`${isUsed ? "reads" : "passes over"} ${what}, by get`, async (t) => {
      const stub = await serveApi(t, { [`GET ${path}/pull`]: secret(type, key) });
      const config = isUsed ? Buffer.from("{}") : undefined;
      assert.deepEqual(await read(), { type, config, isOlderForm: key === ".dockercfg" && isUsed });
      assert.deepEqual(stub.lines(), [`GET ${path}/pull`]);
    });
  }

  it("passes over a docker config that is empty", async (t) => {
    const data = { ".dockerconfigjson": "" };
    await serveApi(t, { [`GET ${path}/pull`]: { type: "kubernetes.io/dockerconfigjson", data } });
    assert.equal((await read())?.config, undefined);
  });

  it("is undefined for a Secret that is not there", async (t) => {
    await serveApi(t, {});
    assert.equal(await read(), undefined);
  });

  it("lists the one Secret where it may not get it, as under figwasp v1's Role", async (t) => {
    const found = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
    const stub = await serveApi(t, { [`GET ${path}/pull`]: forbidden, [`GET ${path}`]: { items: [found] } });
    assert.equal((await read())?.type, found.type);
    assert.equal(stub.requests[1]?.path, `${path}?fieldSelector=metadata.name%3Dpull`);
  });

  it("does not list where get fails for another reason", async (t) => {
    const stub = await serveApi(t, { [`GET ${path}/pull`]: { code: 500, message: "etcd" }, [`GET ${path}`]: {} });
    await assert.rejects(read(), { message: `GET ${path}/pull returned 500: etcd, asked 3 times` });
    assert(stub.lines().every((line) => line === `GET ${path}/pull`));
  });

  it("gives the refusal of get where it may do neither", async (t) => {
    await serveApi(t, { [`GET ${path}/pull`]: forbidden, [`GET ${path}`]: { code: 403, message: "nor list" } });
    await assert.rejects(read(), { message: `GET ${path}/pull returned 403: secrets is forbidden` });
  });
});

describe("Cluster.readRevisions()", () => {
  const list = (...items: object[]) => ({ items, metadata: {} });
  const owner = { ownerReferences: [{ uid: "u1", controller: true }] };

  it("gives ReplicaSets in full, the newest first, and tells which the template went back to", async (t) => {
    const replicaSet = (number: string, at: string, annotations: object, others: object = {}) => ({
      metadata: {
        ...owner,
        creationTimestamp: at,
        annotations: { "deployment.kubernetes.io/revision": number, ...others },
      },
      spec: { template: { metadata: { annotations } } },
    });
    const second = replicaSet("2", "2026-11-21T00:00:00Z", { a: "2" });
    const first = replicaSet(
      "3",
      "2026-11-21T00:00:00Z",
      { a: "1" },
      { "deployment.kubernetes.io/revision-history": "1" },
    );
    const foreign = { metadata: { ...owner, ownerReferences: [{ uid: "u2", controller: true }] } };
    const stub = await serveApi(t, { [`GET ${apps}/replicasets`]: list(second, first, foreign) });
    const revisions = await (await connect()).readRevisions(aWorkload({ uid: "u1" }));
    const told = revisions.map(({ number, isReused, templateAnnotations }) => [number, isReused, templateAnnotations]);
    assert.deepEqual(told, [
      [3, true, { a: "1" }],
      [2, false, { a: "2" }],
    ]);
    assert.match(stub.requests[0]?.path ?? "", /labelSelector=app%3Dapi/);
  });

  it("reads the template in a ControllerRevision, and takes one that is older than those before for used again", async (t) => {
    const revision = (number: number, at: string, annotations: object) => ({
      metadata: { ...owner, creationTimestamp: at },
      revision: number,
      data: { spec: { template: { metadata: { annotations } } } },
    });
    const all = [revision(2, "2026-11-21T00:00:01Z", { a: "2" }), revision(3, "2026-11-21T00:00:00Z", { a: "1" })];
    await serveApi(t, { [`GET ${apps}/controllerrevisions`]: list(...all) });
    const revisions = await (await connect()).readRevisions(aWorkload({ kind: "daemonset", uid: "u1" }));
    assert.deepEqual(
      revisions.map(({ number, isReused, templateAnnotations }) => [number, isReused, templateAnnotations]),
      [
        [3, true, { a: "1" }],
        [2, false, { a: "2" }],
      ],
    );
  });

  it("sees that a ControllerRevision is used again by any younger one of a lower number", async (t) => {
    const revision = (number: number, seconds: number) => ({
      metadata: { ...owner, creationTimestamp: `2026-11-21T00:00:0${seconds}Z` },
      revision: number,
      data: {},
    });
    const reused = async (...all: object[]) => {
      await serveApi(t, { [`GET ${apps}/controllerrevisions`]: list(...all) });
      const [newest] = await (await connect()).readRevisions(aWorkload({ kind: "statefulset", uid: "u1" }));
      return newest?.isReused;
    };
    assert.equal(await reused(revision(5, 1), revision(4, 0), revision(3, 2)), true);
    assert.equal(await reused(revision(5, 3), revision(4, 0), revision(3, 2)), false);
    assert.equal(await reused(revision(5, 2), revision(4, 0), revision(3, 2)), undefined);
    assert.equal(await reused(revision(5, 2)), false);
  });
});

describe("Cluster.annotateTemplate()", () => {
  const path = `${apps}/deployments/api`;
  const annotate = async () => (await connect()).annotateTemplate(aWorkload(), { b: "2" }, { isDryRun: false });
  const denied = { code: 403, message: 'cannot patch resource "deployments"' };

  it("writes as the field manager that is given, with PATCH and PUT", async (t) => {
    const put = { metadata: { resourceVersion: "7" }, spec: { template: {} } };
    const stub = await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: put, [`PUT ${path}`]: {} });
    await (
      await connect({ fieldManager: "flux-client-side-apply" })
    ).annotateTemplate(aWorkload(), { b: "2" }, { isDryRun: false });
    const written = stub.requests.filter(({ method }) => method !== "GET").map(({ path: asked }) => asked);
    assert.deepEqual(
      written,
      Array.from({ length: 2 }, () => `${path}?fieldManager=flux-client-side-apply`),
    );
  });

  it("sends a strategic-merge PATCH of that version of the object, as field manager figwasp", async (t) => {
    const stub = await serveApi(t, { [`PATCH ${path}`]: {} });
    await annotate();
    const [request = assert.fail()] = stub.requests;
    assert.equal(request.path, `${path}?fieldManager=figwasp`);
    assert.equal(request.headers["content-type"], "application/strategic-merge-patch+json");
    const template = { metadata: { annotations: { b: "2" } } };
    assert.deepEqual(JSON.parse(request.body), { metadata: { resourceVersion: "7" }, spec: { template } });
  });

  const object = (resourceVersion: string) => ({
    metadata: { name: "api", resourceVersion, unknown: [1] },
    spec: { template: { metadata: { annotations: { a: "1" } }, spec: { containers: [{ name: "app", fresh: {} }] } } },
  });

  it("puts the whole object back, unknown fields too, where PATCH is forbidden", async (t) => {
    const stub = await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: object("7"), [`PUT ${path}`]: {} });
    await annotate();
    assert.deepEqual(stub.lines(), [`PATCH ${path}`, `GET ${path}`, `PUT ${path}`]);
    const expected = object("7");
    Object.assign(expected.spec.template.metadata.annotations, { b: "2" });
    assert.deepEqual(JSON.parse(stub.requests[2]?.body ?? ""), expected);
  });

  it("does not put back an object that has changed since it was judged", async (t) => {
    const stub = await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: object("8"), [`PUT ${path}`]: {} });
    await assert.rejects(annotate(), { status: 409 });
    assert.equal(stub.requests.length, 2);
  });

  it("says that patch is forbidden where update is forbidden too", async (t) => {
    const put = { code: 403, message: "cannot update" };
    await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: object("7"), [`PUT ${path}`]: put });
    await assert.rejects(annotate(), { message: `PATCH ${path} returned 403: ${denied.message}` });
  });

  it("says that patch is forbidden where get is forbidden too", async (t) => {
    await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: { code: 403, message: "cannot get" } });
    await assert.rejects(annotate(), { message: `PATCH ${path} returned 403: ${denied.message}` });
  });

  it("tells which annotations the changed workload does not have", async (t) => {
    await serveApi(t, { [`PATCH ${path}`]: object("8") });
    assert.deepEqual((await annotate()).lostAnnotations, ["b"]);
    const kept = object("8");
    Object.assign(kept.spec.template.metadata.annotations, { b: "2" });
    await serveApi(t, { [`PATCH ${path}`]: kept });
    assert.deepEqual((await annotate()).lostAnnotations, []);
    await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: object("7"), [`PUT ${path}`]: object("8") });
    assert.deepEqual((await annotate()).lostAnnotations, ["b"]);
  });

  it("passes on a conflict and any other refusal", async (t) => {
    for (const code of [409, 422, 500]) {
      const stub = await serveApi(t, { [`PATCH ${path}`]: { code, message: "modified" } });
      await assert.rejects(annotate(), { status: code });
      assert.equal(stub.requests.length, code === 500 ? 3 : 1);
    }
    await serveApi(t, { [`PATCH ${path}`]: denied, [`GET ${path}`]: object("7"), [`PUT ${path}`]: { code: 500 } });
    await assert.rejects(annotate(), { status: 500 });
  });
});

describe("Cluster.getNodePlatform()", () => {
  const path = (name: string) => `GET /api/v1/nodes/${name}`;
  const arm = { status: { nodeInfo: { operatingSystem: "linux", architecture: "arm64" } } };

  it("asks for each node once, also if several ask at once", async (t) => {
    const stub = await serveApi(t, { [path("n1")]: arm, [path("n2")]: arm });
    const cluster = await connect();
    const names = ["n1", "n1", "n2", "n1"];
    const platforms = await Promise.all(names.map((name) => cluster.getNodePlatform(name)));
    assert.deepEqual([...platforms, await cluster.getNodePlatform("n2")], Array(5).fill("linux/arm64"));
    assert.deepEqual(stub.lines(), [path("n1"), path("n2")]);
  });

  it("asks for nothing more after it was refused, also if several wait", async (t) => {
    const stub = await serveApi(t, { [path("n1")]: { code: 403 }, [path("n2")]: arm, [path("n3")]: arm });
    const cluster = await connect();
    const platforms = await Promise.all(["n1", "n2", "n3"].map((name) => cluster.getNodePlatform(name)));
    assert.deepEqual([...platforms, await cluster.getNodePlatform("n2")], Array(4).fill(undefined));
    assert.deepEqual(stub.lines(), [path("n1")]);
  });

  it("does not know one that is gone, has no name or does not tell, and goes on asking", async (t) => {
    const stub = await serveApi(t, { [path("silent")]: { status: {} }, [path("n1")]: arm });
    const cluster = await connect();
    for (const name of ["gone", "", "silent"]) assert.equal(await cluster.getNodePlatform(name), undefined, name);
    assert.equal(await cluster.getNodePlatform("n1"), "linux/arm64");
    assert.deepEqual(stub.lines(), ["gone", "silent", "n1"].map(path));
  });

  it("throws what else the API server answers", async (t) => {
    await serveApi(t, { [path("n1")]: { code: 500, message: "no" } });
    const cluster = await connect();
    await assert.rejects(cluster.getNodePlatform("n1"), (error) => error instanceof HttpError && error.status === 500);
  });
});
