import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { describe, it, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { main } from "../figwasp.ts";
import type { Terminal } from "../lib/command/terminal.ts";
import { fetch } from "../lib/http/fetch.ts";
import { HttpError } from "../lib/errors.ts";
import type { Cluster } from "../lib/kubernetes/cluster.ts";
import type { WorkloadEvent } from "../lib/kubernetes/events.ts";
import type { Kind, Pod, Revision, Secret, Workload } from "../lib/kubernetes/objects.ts";
import { kubeconfigFor, serveApi } from "./support/api.ts";
import type { Digest } from "../lib/registry/manifest.ts";
import type { NoteEntry } from "../lib/verdicts.ts";
import { aContainer, aPod, aWorkload, owning } from "./support/cluster.ts";
import { behind, digest, giving, holding, refusing, routes } from "./support/doors.ts";
import { heard, type Login, plant, plantToken } from "./support/leaks.ts";
import {
  callIt,
  digestOf,
  folderOf,
  imageOf,
  imageWith,
  indexOf,
  indexOver,
  serveRegistry,
  sha256,
  type StubRegistry,
} from "./support/registry.ts";
import { mistakesIn } from "./support/schema.ts";
import { type Answer, serve } from "./support/serve.ts";
import { YAML } from "zx";

const env = { FIGWASP_TARGET_DEPLOYMENT: "api" };

interface Scene {
  workload?: Partial<Workload>;
  pods?: Pod[];
  /** The state of the rollout at each read after the PATCH; later reads repeat the last one. */
  rollouts?: Workload["rollout"][];
  /** The pods after the PATCH. */
  newPods?: Pod[];
  /** The newest first. */
  revisions?: Revision[];
  /** The platforms of nodes, by name, as far as figwasp may know them. */
  nodes?: Record<string, string | HttpError>;
  /** The workload after the PATCH. */
  after?: Partial<Workload>;
  /** Further workloads in the cluster, which a selector finds. */
  listed?: Partial<Record<Kind, () => Partial<Workload>[]>>;
  /** By name; no other Secret exists. */
  secrets?: Record<string, () => Secret>;
  onPatch?: () => void;
  /** Annotations that something would take out again, by the dry run. */
  lost?: string[];
  /** Annotations that something takes out again, which the dry run did not tell. */
  lostLater?: string[];
  /** Images of the template, as the dry run answers them. */
  templateImages?: Record<string, string>;
  onPods?: () => void;
  /** Called at each read of the workload after the PATCH. */
  onRead?: () => void;
  onEvent?: () => void;
  /** The rights that a SelfSubjectAccessReview denies, as `verb resource`. */
  denied?: string[];
  argv?: string[];
  env?: Record<string, string>;
  /** By name of the workload; a workload that is not in it has those of `pods`. */
  podsOf?: Record<string, Pod[] | Error>;
  terminal?: Terminal;
  /** A test that planted credentials: at its end, all that was printed and written is searched for them. */
  t?: TestContext;
}

interface Outcome {
  code: number;
  lines: string[];
  errors: string[];
  progress: string[];
  patches: { subject: string; annotations: Record<string, string> }[];
  /** How many PATCHes with dryRun=All. */
  dryPatches: number;
  lists: string[];
  /** The nodes that were asked about. */
  nodesAsked: string[];
  /** Names of the workloads whose pods were read. */
  podReads: string[];
  /** The Secrets that were read, as `namespace/name`. */
  secrets: string[];
  events: WorkloadEvent[];
  /** The termination message, which `kubectl describe` shows of figwasp's own pod. */
  message: string;
}

/** Runs `main` against a cluster of plain data. */
async function run({
  workload,
  pods = [],
  rollouts = [],
  newPods = pods,
  revisions = [],
  nodes = {},
  after = {},
  listed = {},
  secrets = {},
  onPatch = () => {},
  lost = [],
  lostLater = [],
  templateImages = {},
  onPods = () => {},
  onRead = () => {},
  onEvent = () => {},
  denied = [],
  argv = [],
  env: variables = env,
  podsOf = {},
  terminal,
  t,
}: Scene): Promise<Outcome> {
  const outcome: Outcome = {
    code: -1,
    lines: [],
    errors: [],
    progress: [],
    patches: [],
    dryPatches: 0,
    lists: [],
    nodesAsked: [],
    podReads: [],
    secrets: [],
    events: [],
    message: "",
  };
  const written = new Map<string, Record<string, string>>();
  const cluster: Cluster = {
    namespace: "shop",
    getWorkload: async ({ kind, namespace, name }) => {
      if (name === "lost") throw new HttpError(404, "not found");
      if (outcome.patches.length > 0) onRead();
      const rollout = outcome.patches.length > 0 && (rollouts.length > 1 ? rollouts.shift() : rollouts[0]);
      const asMade = aWorkload({ kind, namespace, name, ...workload, ...(rollout && { rollout }) });
      const annotations = written.get(`${kind} ${namespace}/${name}`);
      if (!annotations) return asMade;
      return { ...asMade, templateAnnotations: { ...asMade.templateAnnotations, ...annotations }, ...after };
    },
    listWorkloads: async (kind, namespace, selector) => {
      outcome.lists.push(`${kind} in ${namespace} by ${selector}`);
      return (listed[kind]?.() ?? []).map((changes) => aWorkload({ kind, ...workload, ...changes }));
    },
    readOwnedObjects: async (owner) => {
      outcome.podReads.push(owner.name);
      onPods();
      const current = podsOf[owner.name] ?? (outcome.patches.length > 0 ? newPods : pods);
      if (current instanceof Error) throw current;
      return owning(owner, current);
    },
    getSecret: async (namespace, name) => {
      outcome.secrets.push(`${namespace}/${name}`);
      return secrets[name]?.();
    },
    clock: { aheadMs: 0 },
    mayI: async ({ verb, resource }) => !denied.includes(`${verb} ${resource}`),
    recordEvent: async (event) => {
      outcome.events.push(event);
      onEvent();
    },
    readRevisions: async () => revisions,
    getNodePlatform: async (name) => {
      outcome.nodesAsked.push(name);
      const found = nodes[name];
      if (found instanceof HttpError) throw found;
      return found;
    },
    annotateTemplate: async ({ kind, namespace, name }, annotations, { isDryRun }) => {
      if (isDryRun) {
        outcome.dryPatches += 1;
        return { lostAnnotations: lost, images: new Map(Object.entries(templateImages)) };
      }
      outcome.patches.push({ subject: `${kind} ${namespace}/${name}`, annotations });
      onPatch();
      written.set(`${kind} ${namespace}/${name}`, annotations);
      return { lostAnnotations: lostLater, images: new Map() };
    },
  };
  outcome.code = await main(
    argv,
    { FIGWASP_CERTS_DIR: "/nowhere", ...variables },
    {
      fetch,
      connect: async () => cluster,
      now: () => new Date("2026-11-21T10:00:00.123Z"),
      log: (line) => outcome.lines.push(line),
      logError: (line) => outcome.errors.push(line),
      end: async (message) => {
        outcome.message = message;
      },
      progress: (text) => outcome.progress.push(text),
      ...(terminal && { terminal }),
      stop: new AbortController().signal,
    },
  );
  if (t) for (const text of [...outcome.lines, ...outcome.errors, JSON.stringify(outcome.patches)]) heard(t, text);
  return outcome;
}

/** The note that the first PATCH wrote. */
function noteIn(patches: Outcome["patches"]): { containers: Record<string, NoteEntry> } {
  return JSON.parse(patches[0]?.annotations["figwasp/restarted-for"] ?? "");
}

/** A registry with an image `app:latest` that is named by this word, and a workload with that image. */
async function aRegistry(t: TestContext, word: string): Promise<{ stub: StubRegistry; workload: Partial<Workload> }> {
  const stub = await serveRegistry(t);
  stub.manifests.set("latest", imageOf(word));
  return { stub, workload: { containers: [{ name: "app", image: `${stub.host}/app:latest` }] } };
}

function podOf(word: string, name = "p1"): Pod {
  const imageID = `x/app@${sha256(imageOf(word).body)}`;
  return aPod(name, "", { containers: [aContainer({ imageID })] });
}

describe("main()", () => {
  it("restarts an outdated Deployment by one PATCH of two annotations, and says what it compared", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const { code, lines, patches, dryPatches } = await run({ workload, pods: [podOf("v1"), podOf("v2", "p2")] });
    const [running, resolved] = [imageOf("v1"), imageOf("v2")].map(({ body }) => sha256(body));
    assert.equal(code, 0);
    assert.deepEqual(lines, [
      `deployment shop/api, container app (${stub.host}/app:latest): outdated, ` +
        `running ${running} in 1 of 2 pods, resolved ${resolved}`,
      "deployment shop/api: restarted, outdated: app",
    ]);
    const annotations = {
      "kubectl.kubernetes.io/restartedAt": "2026-11-21T10:00:00Z",
      "figwasp/restarted-for": JSON.stringify({
        at: "2026-11-21T10:00:00Z",
        containers: {
          app: { image: `${stub.host}/app:latest`, wanted: resolved, ran: [running], unclear: [], try: 1 },
        },
      }),
    };
    assert.equal(dryPatches, 1);
    assert.deepEqual(patches, [{ subject: "deployment shop/api", annotations }]);
  });

  it("says of a restart from which digest to which, in an Event of the workload and as its last words", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const { events, message } = await run({ workload, pods: [podOf("v1")] });
    const [running, resolved] = [imageOf("v1"), imageOf("v2")].map(({ body }) => sha256(body));
    assert.equal(events.length, 1);
    const { reason, type, message: text, involvedObject, metadata } = events[0] ?? assert.fail();
    assert.deepEqual([reason, type, metadata.namespace], ["Restarted", "Normal", "shop"]);
    assert.equal(text, `app (${stub.host}/app:latest) from ${running} to ${resolved}`);
    const object = { apiVersion: "apps/v1", kind: "Deployment", namespace: "shop", name: "api", uid: "uid-api" };
    assert.deepEqual(involvedObject, object);
    assert.equal(message, "1 restarted\ndeployment shop/api: restarted, outdated: app");
  });

  describe("and what the owner calls the new image", () => {
    const called = " (version 1.4.2, revision 3f2c1ab)";

    async function aRelease(t: TestContext) {
      const { image, blob } = imageWith({ config: { Labels: callIt("1.4.2", "3f2c1ab") } });
      const stub = await serveRegistry(t);
      stub.put("latest", image);
      stub.blobs.set(sha256(blob), blob);
      const blobsAsked = () => stub.lines().filter((line) => line.includes("/blobs/")).length;
      return { stub, blobsAsked, workload: { containers: [{ name: "app", image: stub.image("latest") }] } };
    }

    it("says it in the log, in the Event and in the JSON, of an image that two workloads run", async (t) => {
      const { workload, blobsAsked } = await aRelease(t);
      const scene = { workload, pods: [podOf("v1")], env: { FIGWASP_TARGET_DEPLOYMENT: "a,b" } };
      const { code, lines, events } = await run(scene);
      assert.deepEqual([code, blobsAsked()], [0, 1]);
      assert.deepEqual(lines.filter((line) => line.endsWith(called)).length, 2);
      assert.equal(events.filter(({ message }) => message.endsWith(called)).length, 2);
      const json = await run({ ...scene, argv: ["-o", "json"] });
      const document = JSON.parse(json.lines[0] ?? "") as { workloads: { containers: { release: unknown }[] }[] };
      assert.equal(mistakesIn(document), "");
      const releases = document.workloads.map(({ containers }) => containers[0]?.release);
      assert.deepEqual(
        releases,
        [1, 2].map(() => ({ version: "1.4.2", revision: "3f2c1ab" })),
      );
    });

    it("asks for it in a dry run too, and never where nothing is restarted", async (t) => {
      const { stub, workload, blobsAsked } = await aRelease(t);
      const { lines, events } = await run({ workload, pods: [podOf("v1")], argv: ["--dry-run"] });
      assert(lines[0]?.endsWith(called), lines[0]);
      assert.deepEqual([events, blobsAsked()], [[], 1]);
      const imageID = `x/app@${sha256(stub.manifests.get("latest")?.body ?? "")}`;
      const current = aPod("p1", "", { containers: [aContainer({ imageID })] });
      assert.equal((await run({ workload, pods: [current] })).code, 0);
      const [{ annotations } = assert.fail()] = (await run({ workload, pods: [podOf("v1")] })).patches;
      const stuck = { workload: { ...workload, templateAnnotations: annotations }, pods: [podOf("v1")] };
      assert.match((await run(stuck)).lines.at(-1) ?? "", /not converged/);
      assert.equal(blobsAsked(), 2, "the dry run's and the restart's");
    });

    it("restarts before it asks, and all the same where it gets no answer", async (t) => {
      const { stub, workload, blobsAsked } = await aRelease(t);
      stub.blobs.clear();
      let blobsBefore = -1;
      const onPatch = () => (blobsBefore = blobsAsked());
      const { code, lines, events, patches } = await run({ workload, pods: [podOf("v1")], onPatch });
      assert.deepEqual([code, patches.length, blobsBefore, blobsAsked()], [0, 1, 0, 1]);
      assert.equal(lines.length, 2, "no note");
      assert.match(lines[0] ?? "", /resolved sha256:\w+$/);
      assert.match(events[0]?.message ?? "", / to sha256:\w+$/);
    });
  });

  it("hints once at what applies the workloads, where one is restarted or would be, and not else", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const marked = { ...workload, metadataKeys: ["argocd.argoproj.io/tracking-id"] };
    const scene = { workload: marked, pods: [podOf("v1")], env: { FIGWASP_TARGET_DEPLOYMENT: "a,b" } };
    const isHint = (line: string) => line.startsWith("Argo CD applies ");
    assert.equal((await run(scene)).lines.filter(isHint).length, 1);
    assert.equal((await run({ ...scene, argv: ["--dry-run"] })).lines.filter(isHint).length, 1);
    assert.equal((await run({ ...scene, pods: [podOf("v2")] })).lines.filter(isHint).length, 0);
  });

  it("goes without Events where the Role does not grant them, and notes another refusal", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const scene = (status: number) => ({
      workload,
      pods: [podOf("v1")],
      onEvent: () => {
        throw new HttpError(status, `returned ${status}`);
      },
    });
    for (const status of [403, 409]) {
      const silent = await run(scene(status));
      assert.deepEqual([silent.code, silent.patches.length, silent.lines.length], [0, 1, 2]);
    }
    const noted = await run(scene(500));
    assert.deepEqual([noted.code, noted.lines[2]], [0, "Cannot write an Event of deployment shop/api: returned 500"]);
  });

  describe("on a terminal", () => {
    const terminal = { columns: 120, hasColors: false };

    it("draws a table in the end, and shows meanwhile how far it is", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const { code, lines, progress } = await run({ workload, pods: [podOf("v1")], terminal });
      assert.equal(code, 0);
      assert.match(lines[0] ?? "", /^NAMESPACE +WORKLOAD +CONTAINER +VERDICT +DIGEST +IMAGE$/);
      assert.match(lines[1] ?? "", /^shop +deployment\/api +app +outdated +[a-f0-9]{12} → [a-f0-9]{12} +127\.0\.0\.1:/);
      assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app");
      assert.deepEqual(progress, ["reading the workloads", "1 of 1 workloads looked at"]);
    });

    it("shows how far a rollout is", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const state = { isComplete: false, progress: "1 of 2 pods updated, 0 available", failure: undefined };
      const rollouts = [state, { ...state, isComplete: true }];
      const scene = { workload, pods: [podOf("v1")], newPods: [podOf("v2")], rollouts, terminal, argv: ["--wait"] };
      const { lines, progress } = await run(scene);
      assert.equal(progress.at(-1), "deployment shop/api: rolling out, 1 of 2 pods updated, 0 available");
      assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app; it has rolled out");
    });

    it("prints JSON where that is asked for", async () => {
      const { lines } = await run({ pods: [], terminal, argv: ["-o", "json"] });
      assert.equal(mistakesIn(JSON.parse(lines.join("\n"))), "");
    });
  });

  describe("with -v", () => {
    it("tells each request and its answer beside the verdicts", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const { lines, errors } = await run({ workload, pods: [podOf("v1")], argv: ["-v"] });
      assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app");
      assert.match(
        errors[0] ?? "",
        /^ {2}HEAD http:\/\/127\.0\.0\.1:\d+\/v2\/app\/manifests\/latest: 200 OK in \d+ ms, docker-content-digest sha256:/,
      );
      assert(errors.some((line) => line.startsWith("  GET ")));
    });
  });

  describe("rbac", () => {
    const pods = [aPod("p1", "v1", { pullSecrets: ["pull"] }), aPod("p2", "v1", { pullSecrets: ["pull", "other"] })];

    it("prints the smallest Role for a workload, with the Secrets of its pods, and writes nothing", async () => {
      const { code, lines, patches, events } = await run({ pods, argv: ["rbac"] });
      assert.deepEqual([code, lines.length, patches, events], [0, 1, [], []]);
      const documents = YAML.parseAllDocuments(lines[0] ?? "").map((each) => each.toJSON() as unknown) as {
        kind: string;
        metadata: object;
        rules: object[];
      }[];
      assert.deepEqual(
        documents.map(({ kind }) => kind),
        ["ServiceAccount", "Role", "RoleBinding"],
      );
      assert(documents.every(({ metadata }) => "namespace" in metadata && metadata.namespace === "shop"));
      assert.deepEqual(documents[1]?.rules, [
        { apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["api"], verbs: ["get", "patch"] },
        { apiGroups: ["apps"], resources: ["replicasets"], verbs: ["list"] },
        { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
        { apiGroups: [""], resources: ["events"], verbs: ["create"] },
        { apiGroups: [""], resources: ["secrets"], resourceNames: ["pull", "other"], verbs: ["get"] },
      ]);
    });

    it("prints a ClusterRole for all namespaces, and a Role for the Secrets of each", async () => {
      const listed = {
        deployment: () => [
          { name: "api", namespace: "shop" },
          { name: "log", namespace: "ops" },
        ],
      };
      const podsOf = { api: pods, log: [aPod("p3", "v1")] };
      const { lines } = await run({ listed, podsOf, argv: ["rbac", "-A", "--all"] });
      const documents = YAML.parseAllDocuments(lines[0] ?? "").map((each) => each.toJSON() as unknown) as {
        kind: string;
        metadata: { namespace?: string };
        rules: { resources: string[] }[];
        subjects: object[];
      }[];
      const told = documents.map(({ kind, metadata }) => [kind, metadata.namespace]);
      assert.deepEqual(told, [
        ["ServiceAccount", "shop"],
        ["ClusterRole", undefined],
        ["ClusterRoleBinding", undefined],
        ["Role", "shop"],
        ["RoleBinding", "shop"],
      ]);
      assert.deepEqual(
        documents[1]?.rules.flatMap(({ resources }) => resources),
        ["deployments", "statefulsets", "daemonsets", "replicasets", "pods", "events"],
      );
      assert.deepEqual(documents[3]?.rules, [
        { apiGroups: [""], resources: ["secrets"], resourceNames: ["pull", "other"], verbs: ["get"] },
      ]);
      for (const { subjects } of documents.filter(({ kind }) => kind.endsWith("Binding"))) {
        assert.deepEqual(subjects, [{ kind: "ServiceAccount", name: "figwasp", namespace: "shop" }]);
      }
    });

    it("fails where a workload cannot be read", async () => {
      const { code, errors } = await run({ argv: ["rbac", "lost"] });
      assert.deepEqual([code, errors], [1, ["figwasp: Cannot read deployment shop/lost: not found"]]);
    });

    it("grants a list where the workloads are found by one", async () => {
      const listed = { daemonset: () => [{ name: "log" }] };
      const { lines } = await run({ listed, argv: ["rbac", "--all"] });
      const [, role] = YAML.parseAllDocuments(lines[0] ?? "").map((each) => each.toJSON() as unknown) as {
        rules: object[];
      }[];
      assert.deepEqual(role?.rules.slice(0, 2), [
        {
          apiGroups: ["apps"],
          resources: ["deployments", "statefulsets", "daemonsets"],
          verbs: ["list", "get", "patch"],
        },
        { apiGroups: ["apps"], resources: ["controllerrevisions"], verbs: ["list"] },
      ]);
    });

    it("grants the revisions of a StatefulSet, since they tell whether a restart was taken back", async () => {
      const { lines } = await run({ workload: { kind: "statefulset" }, pods, argv: ["rbac", "sts/api"] });
      const [, role] = YAML.parseAllDocuments(lines[0] ?? "").map((each) => each.toJSON() as unknown) as {
        rules: object[];
      }[];
      assert.deepEqual(role?.rules.slice(0, 2), [
        { apiGroups: ["apps"], resources: ["statefulsets"], resourceNames: ["api"], verbs: ["get", "patch"] },
        { apiGroups: ["apps"], resources: ["controllerrevisions"], verbs: ["list"] },
      ]);
    });

    it("fails where there is nothing to look after", async () => {
      const { code, errors } = await run({ argv: ["rbac", "--all"] });
      assert.deepEqual([code, errors.length], [1, 1]);
      assert.match(errors[0] ?? "", /no workload was found, name one or label it$/);
    });
  });

  describe("where the platforms of nodes may be known", () => {
    const [amd, arm, v7] = ["linux/amd64", "linux/arm64", "linux/arm/v7"] as const;

    /** `{ "linux/amd64": "word" }`, or the word of an image that stands alone. */
    function imageFor(stub: StubRegistry, what: Record<string, string> | string) {
      if (typeof what === "string") return imageOf(what);
      const children = Object.entries(what).map(([name, word]): [Digest, object] => {
        const [os, architecture, variant] = name.split("/");
        return [stub.put(`image ${word}`, imageOf(word)), { os, architecture, ...(variant && { variant }) }];
      });
      return indexOf(...children);
    }

    const nodes = { a1: amd, a2: amd, r1: arm, r2: arm };
    const both = { [amd]: "a", [arm]: "b" };
    type Images = Record<string, string> | string;
    const rows: {
      what: string;
      was?: Images;
      is: Images;
      on: string[];
      asked?: string[];
      end: RegExp;
      without?: RegExp;
    }[] = [
      { what: "nothing differs", is: both, on: ["a1"], asked: [], end: /current/ },
      { what: "a platform of no node was lost", is: { [amd]: "a" }, on: ["a1"], asked: [], end: /current/ },
      { what: "the platform of the node was lost", is: { [amd]: "a" }, on: ["r1"], asked: [], end: /current/ },
      {
        what: "one image that stands alone became another one",
        was: "x",
        is: "y",
        on: ["a1"],
        asked: [],
        end: /restarted/,
      },
      {
        what: "an index of one image has another one",
        was: { [amd]: "a" },
        is: { [amd]: "new" },
        on: ["a1"],
        asked: [],
        end: /restarted/,
      },
      {
        what: "another platform's changed",
        is: { [amd]: "a", [arm]: "new" },
        on: ["a1", "a2"],
        end: /current/,
        without: /restarted/,
      },
      {
        what: "the node's own changed",
        is: { [amd]: "a", [arm]: "new" },
        on: ["r1"],
        end: /restarted/,
        without: /restarted/,
      },
      {
        what: "one changed, and there are nodes of both",
        is: { [amd]: "a", [arm]: "new" },
        on: ["a1", "r1"],
        end: /restarted/,
      },
      {
        what: "another platform's changed, and a node is not known",
        is: { [amd]: "a", [arm]: "new" },
        on: ["a1", "gone"],
        end: /restarted/,
      },
      {
        what: "the node's was lost, and another one changed",
        is: { [amd]: "new" },
        on: ["r1"],
        end: /unknown/,
        without: /restarted/,
      },
      {
        what: "a preferred one was gained",
        was: { [v7]: "a" },
        is: { [v7]: "a", [arm]: "b" },
        on: ["r1"],
        end: /restarted/,
        without: /unknown/,
      },
      {
        what: "one was gained that this node cannot run",
        was: { [v7]: "a" },
        is: { [v7]: "a", [arm]: "b" },
        on: ["old"],
        end: /current/,
        without: /unknown/,
      },
      {
        what: "the only one was replaced by a preferred one",
        was: { [v7]: "a" },
        is: { [arm]: "b" },
        on: ["r1"],
        end: /restarted/,
        without: /unknown/,
      },
      {
        what: "the only one was replaced by a higher variant",
        was: { [amd]: "a" },
        is: { "linux/amd64/v3": "b" },
        on: ["a1"],
        end: /unknown/,
      },
      {
        what: "the only one was replaced by a lower variant",
        was: { "linux/amd64/v3": "a" },
        is: { [amd]: "b" },
        on: ["a1"],
        end: /restarted/,
        without: /unknown/,
      },
      {
        what: "a higher variant was gained, which is not known of a node",
        was: { [amd]: "a" },
        is: { [amd]: "a", "linux/amd64/v3": "b" },
        on: ["a1"],
        end: /unknown/,
      },
      {
        what: "an image that stood alone became an index with it",
        was: "b",
        is: both,
        on: ["r1"],
        asked: [],
        end: /current/,
      },
      {
        what: "an image that stood alone became an index without it",
        was: "x",
        is: both,
        on: ["r1"],
        end: /restarted/,
        without: /unknown/,
      },
      { what: "an index became one image that does not tell its platform", is: "x", on: ["r1"], end: /unknown/ },
    ];

    async function look(t: TestContext, { was = both, is, on }: (typeof rows)[number], known: Scene["nodes"] = {}) {
      const stub = await serveRegistry(t);
      const imageID = `x/app@${stub.put("was", imageFor(stub, was))}`;
      stub.put("latest", imageFor(stub, is));
      const pods = on.map((node) => aPod(`on-${node}`, "", { node, containers: [aContainer({ imageID })] }));
      return run({ workload: { containers: [{ name: "app", image: stub.image("latest") }] }, pods, nodes: known });
    }

    for (const row of rows) {
      const { what, on, asked = on, end, without = end } = row;
      it(`ends with ${end.source} where ${what}, and asks ${asked.length === 0 ? "no node" : "each node"}`, async (t) => {
        const { lines, nodesAsked, code } = await look(t, row, { ...nodes, old: "linux/arm" });
        assert.match(lines.at(-1) ?? "", end, lines.join("\n"));
        assert.deepEqual([nodesAsked, code], [asked, 0]);
        const blind = await look(t, row);
        assert.match(blind.lines.at(-1) ?? "", without, blind.lines.join("\n"));
      });
    }

    it("fails where the API server does not answer about a node, restarts nothing, and accuses no registry", async (t) => {
      const row = { what: "", is: { [amd]: "a", [arm]: "new" }, on: ["a1"], end: /failed/ };
      const error = new HttpError(429, "GET /api/v1/nodes/a1 returned 429: busy");
      const { lines, code, patches } = await look(t, row, { a1: error });
      assert.deepEqual([code, patches], [1, []]);
      assert.match(lines[0] ?? "", /failed, .*Cannot know the platform of node a1: GET .* returned 429: busy$/);
      assert.equal((await look(t, { ...row, is: { [amd]: "a" } }, { a1: error })).code, 0, "it could not matter");
    });
  });

  describe("doctor", () => {
    const argv = ["doctor"];

    it("finds whether the platforms of nodes are known, which need not be", async (t) => {
      const { workload } = await aRegistry(t, "v1");
      const scene = { workload, pods: [podOf("v1")], argv };
      assert((await run(scene)).lines.includes("  ok  get nodes"));
      const { code, lines } = await run({ ...scene, denied: ["get nodes"] });
      assert.equal(code, 0);
      assert(lines.includes("  --  get nodes: not granted, so that every platform of an index counts"));
      assert.equal(lines.at(-1), "All is well: there is nothing to do");
    });

    it("finds all well, and changes nothing", async (t) => {
      const { stub, workload } = await aRegistry(t, "v2");
      const { code, lines, patches, events } = await run({ workload, pods: [podOf("v1")], argv });
      assert.deepEqual([code, patches, events], [0, [], []], lines.join("\n"));
      assert.equal(lines[0], "Rights");
      assert(lines.includes("  ok  patch deployments/api in shop"));
      assert(lines.some((line) => /^ {2}ok {2}deployment shop\/api, container app .*: outdated, running/.test(line)));
      assert.deepEqual(lines.slice(-5), [
        "Registries",
        `  ok  ${stub.host}, at http://${stub.host}/v2, plain http: asks for no credential`,
        "Clock",
        "  ok  as the API server's",
        "All is well: there is nothing to do",
      ]);
    });

    it("finds a right that is missing, and not one that may be", async (t) => {
      const { workload } = await aRegistry(t, "v1");
      const denied = ["patch deployments", "create events"];
      const { code, lines } = await run({ workload, pods: [podOf("v1")], argv, denied });
      assert.equal(code, 1);
      assert(lines.includes("  NO  patch deployments/api in shop"));
      assert(lines.includes("  --  create events in shop: not granted, so that no Event is written"));
      const advice = "  1. Grant what is missing: figwasp rbac prints the Role, for kubectl apply -f -";
      assert.deepEqual(lines.slice(-2), ["What to do", advice]);
    });

    it("finds that there is nothing to look after, and whether it may look", async () => {
      const { code, lines } = await run({ argv: ["doctor", "-l", "a=b"], denied: ["list deployments"] });
      assert.equal(code, 1);
      assert(lines.includes("  NO  list deployments in shop"));
      assert(lines.includes("  NO  no workload was found"));
      assert.match(lines.at(-1) ?? "", /2\. Name a workload, or label it/);
    });

    it("finds a pull policy that does not pull, and a registry that does not answer", async () => {
      const containers = [
        { name: "app", image: "127.0.0.1:4/app" },
        { name: "old", image: "127.0.0.1:4/old" },
      ];
      const pods = [
        aPod("p1", "", {
          containers: [
            aContainer({ name: "app", pullPolicy: "IfNotPresent", imageID: `x@${digestOf("a")}` }),
            aContainer({ name: "old", imageID: `x@${digestOf("b")}` }),
          ],
        }),
      ];
      const { code, lines } = await run({ workload: { containers }, pods, argv });
      const [, , first, second] = lines.slice(lines.indexOf("What to do") - 1);
      assert.equal(code, 1);
      const seeTo = (name: string) => `See to container ${name} of deployment shop/api: `;
      assert.equal(first, `  1. ${seeTo("app")}set its imagePullPolicy to Always`);
      assert(second?.startsWith(`  2. ${seeTo("old")}let figwasp reach the registry of 127.0.0.1:4/old: `), second);
      assert(lines.some((line) => /^ {2}NO {2}127.0.0.1:4, at .*, plain http: HEAD .*ECONNREFUSED/.test(line)));
    });
  });

  describe("with --wait", () => {
    const rolling = { isComplete: false, progress: "1 of 2 pods updated, 0 available", failure: undefined };
    const done = { isComplete: true, progress: "2 of 2 pods updated, 2 available", failure: undefined };
    const waiting = { ...env, FIGWASP_WAIT: "true" };

    it("follows the rollout, and says that it is done", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const rollouts = [rolling, rolling, done];
      const scene = { workload, pods: [podOf("v1")], newPods: [podOf("v2")], rollouts, env: waiting };
      const { code, lines, patches } = await run(scene);
      assert.deepEqual([code, patches.length], [0, 1]);
      assert.equal(lines[0], "deployment shop/api: rolling out, 1 of 2 pods updated, 0 available");
      assert.match(lines[1] ?? "", /: outdated, running /);
      assert.equal(lines[2], "deployment shop/api: restarted, outdated: app; it has rolled out");
    });

    it("fails where the new pods run something else than was resolved", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const newPods = [podOf("v1")];
      const { code, lines } = await run({ workload, pods: [podOf("v1")], newPods, rollouts: [done], env: waiting });
      assert.equal(code, 1);
      assert.match(lines.at(-1) ?? "", /^deployment shop\/api: not converged, app was restarted for sha256/);
    });

    it("fails at the deadline where what has rolled out cannot be told by then", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const newPods = [aPod("p2", "")];
      const short = { ...waiting, FIGWASP_RUN_TIMEOUT: "1s" };
      const { code, lines } = await run({ workload, pods: [podOf("v1")], newPods, rollouts: [done], env: short });
      assert.equal(code, 1);
      const why = "the run has reached its deadline of 1 s (2 of 2 pods updated, 2 available)";
      assert(lines.at(-1)?.endsWith(`Cannot follow the rollout of deployment shop/api: ${why}`), lines.at(-1));
    });

    it("restarts all before it follows any", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const names = ["a", "b", "c", "d", "e"];
      const listed = { deployment: () => names.map((name) => ({ name, uid: name })) };
      const podsOf = Object.fromEntries(names.map((name) => [name, [podOf("v1")]]));
      const order: string[] = [];
      const seen = { onPatch: () => void order.push("patch"), onRead: () => void order.push("read") };
      await run({ workload, podsOf, listed, rollouts: [done], ...seen, env: { FIGWASP_WAIT: "true" } });
      assert.deepEqual(order.slice(0, 6), ["patch", "patch", "patch", "patch", "patch", "read"]);
    });

    it("looks less often the more it follows, and ends at the deadline all the same", { timeout: 8000 }, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const listed = { deployment: () => Array.from({ length: 80 }, (_, at) => ({ name: `w${at}`, uid: `${at}` })) };
      let reads = 0;
      const scene = { workload, pods: [podOf("v1")], listed, rollouts: [rolling], onRead: () => void reads++ };
      const { code, patches } = await run({ ...scene, env: { FIGWASP_WAIT: "true", FIGWASP_RUN_TIMEOUT: "1200ms" } });
      assert.deepEqual([code, patches.length, reads], [1, 80, 80]);
    });

    it("takes the new pods for right that run what the tag points to by then", async (t) => {
      const { stub, workload } = await aRegistry(t, "v2");
      const onPatch = () => void stub.manifests.set("latest", imageOf("v3"));
      const newPods = [podOf("v3")];
      const scene = { workload, pods: [podOf("v1")], newPods, rollouts: [done], onPatch, env: waiting };
      const { code, lines } = await run(scene);
      assert.equal(code, 0);
      assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app; it has rolled out");
    });

    it("takes for right what somebody has pinned or taken out meanwhile", async (t) => {
      const { stub } = await aRegistry(t, "v2");
      const image = `${stub.host}/app:latest`;
      const changes = [
        { name: "app", image: `${image}@${digestOf("p")}` },
        { name: "web", image },
      ];
      for (const change of changes) {
        const containers = ["app", "side"].map((name) => ({ name, image }));
        const running = (word: string, names: { name: string }[]) => {
          const imageID = `x@${sha256(imageOf(word).body)}`;
          return [aPod("p1", "", { containers: names.map(({ name }) => aContainer({ name, imageID })) })];
        };
        const [pods, newPods] = [running("v1", containers), running("v2", [change, { name: "side" }])];
        const onPatch = () => void containers.splice(0, 1, change);
        const scene = { workload: { containers }, pods, newPods, onPatch, rollouts: [done], env: waiting };
        const { code, lines } = await run(scene);
        assert.equal(code, 0);
        assert.match(lines.at(-1) ?? "", /: restarted, outdated: .*; it has rolled out$/);
      }
    });

    it("waits for a pod that came since, and tells what has failed", async (t) => {
      const { stub, workload } = await aRegistry(t, "v2");
      const newPods = [podOf("v2"), aPod("p2", "")];
      let looks = 0;
      const onRead = () => {
        if (looks++ > 0) newPods.splice(1, 1, podOf("v2", "p2"));
      };
      const scene = { workload, pods: [podOf("v1")], newPods, rollouts: [done], onRead, env: waiting };
      assert.equal((await run(scene)).code, 0);
      const onPatch = () => void stub.manifests.delete("latest");
      const failed = await run({ ...scene, newPods: [podOf("v0")], onPatch });
      assert.equal(failed.code, 1);
      assert.match(failed.lines.at(-1) ?? "", /it has rolled out, and has no answer for app/);
    });

    it("asks for no more of the other containers than a run without it", async (t) => {
      const { stub } = await aRegistry(t, "v2");
      const image = `${stub.host}/app:latest`;
      const workload = { containers: ["app", "dev"].map((name) => ({ name, image })) };
      const imported = aContainer({ name: "dev", imageID: `x/import-2026-01-01@${digestOf("i")}` });
      const both = (pod: Pod): Pod => ({ ...pod, containers: [...pod.containers, imported] });
      const scene = { workload, pods: [both(podOf("v1"))], newPods: [both(podOf("v2"))], rollouts: [done] };
      assert.deepEqual([(await run(scene)).code, (await run({ ...scene, env: waiting })).code], [0, 0]);
    });

    it("goes on where the API server is busy or being replaced for a moment", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const broken = (code: string) => new Error("GET … failed", { cause: Object.assign(new Error(code), { code }) });
      const timeout = new Error("gave no answer", { cause: new DOMException("timeout", "TimeoutError") });
      const troubles: Error[] = [];
      const onRead = () => {
        const trouble = troubles.shift();
        if (trouble) throw trouble;
      };
      const scene = { workload, pods: [podOf("v1")], newPods: [podOf("v2")], rollouts: [done], onRead, env: waiting };
      for (const trouble of [new HttpError(429, ""), new HttpError(503, ""), broken("ECONNREFUSED"), timeout]) {
        troubles.push(trouble);
        assert.equal((await run(scene)).code, 0, trouble.message);
        // The pods are read after the rollout.
        let reads = 0;
        const onPods = () => {
          if (++reads === 2) throw trouble;
        };
        assert.equal((await run({ ...scene, onPods })).code, 0, trouble.message);
      }
      troubles.push(new HttpError(403, "forbidden"));
      assert.equal((await run(scene)).code, 1);
    });

    it("ends where the workload is deleted meanwhile, which is no failure", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const scene = { workload, pods: [podOf("v1")], rollouts: [rolling], env: waiting };
      const held = await run({ ...scene, after: { isDeleted: true } });
      assert.deepEqual([held.code, held.lines.at(-1)], [0, "deployment shop/api: skipped, being deleted"]);
      const onRead = () => {
        throw new HttpError(404, "not found");
      };
      const gone = await run({ ...scene, onRead });
      assert.deepEqual([gone.code, gone.lines.at(-1)], [0, "deployment shop/api: skipped, it is gone"]);
    });

    it("tells in an Event too that a restart did not help", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const newPods = [podOf("v1")];
      const { events } = await run({ workload, pods: [podOf("v1")], newPods, rollouts: [done], env: waiting });
      assert.deepEqual(
        events.map(({ reason }) => reason),
        ["Restarted", "NotConverged"],
      );
    });

    it("fails where the tag has moved again in the meantime, and says so", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const newPods = [podOf("v0")];
      const { code, lines } = await run({ workload, pods: [podOf("v1")], newPods, rollouts: [done], env: waiting });
      assert.equal(code, 1);
      assert.match(lines.at(-1) ?? "", /Cannot follow the rollout of .*: it has rolled out, and is outdated again$/);
    });

    it("fails where the controller gives up", async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const rollouts = [rolling, { ...rolling, failure: "it has exceeded its progress deadline" }];
      const { code, lines } = await run({ workload, pods: [podOf("v1")], rollouts, env: waiting });
      const why = "it has exceeded its progress deadline (1 of 2 pods updated, 0 available)";
      assert.equal(code, 1);
      assert.equal(
        lines.at(-1),
        `deployment shop/api: failed, Cannot follow the rollout of deployment shop/api: ${why}`,
      );
    });

    it("does not wait where nothing was restarted", async (t) => {
      const { workload } = await aRegistry(t, "v1");
      const { code, lines } = await run({ workload, pods: [podOf("v1")], rollouts: [rolling], env: waiting });
      assert.deepEqual([code, lines.length], [0, 2]);
    });
  });

  it("sets the annotation that is wanted, and tells the time of a restart by it", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const other = { ...env, FIGWASP_RESTART_ANNOTATION: "example.org/at" };
    const { patches } = await run({ workload, pods: [podOf("v1")], env: other });
    const [{ annotations } = assert.fail()] = patches;
    assert.deepEqual(Object.keys(annotations), ["example.org/at", "figwasp/restarted-for"]);
    assert.equal(annotations["example.org/at"], "2026-11-21T10:00:00Z");
    const again = { workload: { ...workload, templateAnnotations: annotations }, pods: [podOf("v1")], env: other };
    assert.match((await run(again)).lines.at(-1) ?? "", /was restarted for .* at 2026-11-21T10:00:00Z/);
    const due = { ...again, env: { ...other, FIGWASP_RETRY_INTERVAL: "1h" } };
    assert.equal((await run(due)).patches.length, 0, "it is not due yet");
  });

  it("needs no more of the world than fetch, a cluster, a clock and a log", async () => {
    const lines: string[] = [];
    const connect = async () => assert.fail("not asked for");
    const outside = { fetch, connect, now: () => new Date(), log: (line: string) => lines.push(line) };
    assert.equal(await main([], { FIGWASP_CLIENT_TIMEOUT: "soon" }, outside), 2);
    assert.equal(await main([], {}, outside), 1);
    assert.match(lines.join("\n"), /^figwasp: Cannot use --client-timeout .*\n.*not asked for/);
  });

  it("writes nothing in a dry run, and says what it would do", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const scene = { workload, pods: [podOf("v1")], env: { ...env, FIGWASP_DRY_RUN: "true" } };
    const { code, lines, patches, events } = await run(scene);
    assert.deepEqual([code, patches, events], [0, [], []]);
    assert.equal(lines[1], "deployment shop/api: would be restarted, outdated: app");
  });

  it("gives one JSON document of its schema, and no other line, with -o json", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const scene = { workload, pods: [podOf("v1")], env: { ...env, FIGWASP_OUTPUT: "json" } };
    const { code, lines, patches } = await run(scene);
    assert.deepEqual([code, patches.length, lines.length], [0, 1, 1]);
    const document = JSON.parse(lines[0] ?? "") as Record<string, unknown>;
    assert.equal(mistakesIn(document), "");
    assert.deepEqual(document["counts"], { restarted: 1 });
  });

  it("changes nothing where every pod runs the tag's digest", async (t) => {
    const { stub, workload } = await aRegistry(t, "v1");
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")] });
    assert.deepEqual([code, patches], [0, []]);
    assert.match(lines[0] ?? "", /: current, resolved sha256:/);
    assert.equal(lines[1], "deployment shop/api: current, nothing to do");
    assert.deepEqual(stub.lines(), ["HEAD /v2/app/manifests/latest"]);
  });

  it("writes one line for each, whatever stands in an image name or in the name of a Secret", async () => {
    const odd = "a\nfigwasp\u0085\u009B2J";
    const containers = [{ name: "app", image: odd }];
    const { lines } = await run({ workload: { containers }, pods: [aPod("p1", "v1", { pullSecrets: [odd] })] });
    assert.equal(lines.length, 3);
    for (const line of lines) assert.doesNotMatch(line, /\p{Cc}/u);
    assert.match(
      lines[0] ?? "",
      /^deployment shop\/api, container app \(a figwasp 2J\): failed, Cannot parse image "a\\n/,
    );
    assert.equal(lines[2], "Secret shop/a figwasp 2J is not there");
  });

  it("looks in the named namespace, else in the cluster's own", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const scene = { workload, pods: [podOf("v1")] };
    assert.equal((await run(scene)).patches[0]?.subject, "deployment shop/api");
    const elsewhere = await run({ ...scene, env: { ...env, FIGWASP_TARGET_NAMESPACE: "other" } });
    assert.equal(elsewhere.patches[0]?.subject, "deployment other/api");
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
      ["pending", { workload, pods: [aPod("p1", "")] }, /^deployment shop\/api: waiting, no pod/],
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
      assert.equal(lines.length, what === "pinned" ? 2 : 1, lines.join("\n"));
    }
    assert.deepEqual(stub.requests, []);
  });

  it("fails without a restart where the registry does not answer", async () => {
    const workload = { containers: [{ name: "app", image: "127.0.0.1:4/app:latest" }] };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")] });
    assert.deepEqual([code, patches], [1, []]);
    assert.match(lines[1] ?? "", /^deployment shop\/api: failed, no answer for app$/);
  });

  it("fails without a restart where the registry does not have the tag: new pods could not pull it", async (t) => {
    const { stub } = await aRegistry(t, "v2");
    const workload = { containers: [{ name: "app", image: `${stub.host}/app:gone` }] };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")] });
    assert.deepEqual([code, patches], [1, []]);
    assert.match(lines[0] ?? "", /returned 404 Not Found \(MANIFEST_UNKNOWN\)$/);
  });

  it("restarts for one container, and still fails, where the lookup of another failed", async (t) => {
    const { stub } = await aRegistry(t, "v2");
    const containers = [
      { name: "lost", image: "127.0.0.1:4/app:latest" },
      { name: "app", image: `${stub.host}/app:latest` },
    ];
    const [pod] = [podOf("v1")];
    pod?.containers.push(aContainer({ name: "lost", imageID: `x@${digestOf("x")}` }));
    const { code, lines, patches } = await run({ workload: { containers }, pods: pod ? [pod] : [] });
    assert.equal(code, 1);
    assert.equal(patches.length, 1);
    assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app");
  });

  it("keeps what it noted of a container that cannot be judged now, and forgets all that has converged", async (t) => {
    const { stub } = await aRegistry(t, "v2");
    const image = `${stub.host}/app:latest`;
    const containers = [
      { name: "app", image },
      { name: "web", image: `${stub.host}/app:gone` },
      { name: "pinned", image: `ghcr.io/a/b@${digestOf("x")}` },
    ];
    const entry = { image, wanted: digestOf("w"), ran: [digestOf("r")], unclear: [], try: 2 };
    const earlier = { web: entry, pinned: entry, gone: entry };
    const note = JSON.stringify({ at: "2026-11-21T09:00:00Z", containers: earlier });
    const pod = podOf("v1");
    const web = aContainer({ name: "web", imageID: `x@${digestOf("r")}` });
    const workload = { containers, templateAnnotations: { "figwasp/restarted-for": note } };
    const { patches, code } = await run({ workload, pods: [{ ...pod, containers: [...pod.containers, web] }] });
    const noted = noteIn(patches).containers;
    assert.deepEqual(Object.keys(noted).toSorted(), ["app", "web"]);
    assert.deepEqual(noted["web"], entry);
    assert.equal(code, 1, "the lookup of web has failed");
  });

  it("restarts once for a digest that the nodes do not pull, and says so with exit code 1", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const first = await run({ workload, pods: [podOf("v1")] });
    const pods = [podOf("v1")];
    const stuck = { ...workload, templateAnnotations: first.patches[0]?.annotations ?? {} };
    for (let again = 1; again <= 3; again++) {
      const { code, lines, patches } = await run({ workload: stuck, pods });
      assert.deepEqual([code, patches], [1, []]);
      assert.match(lines[1] ?? "", /^deployment shop\/api: not converged, app was restarted for sha256:/);
    }
    const retried = await run({ workload: stuck, pods, env: { ...env, FIGWASP_RETRY_INTERVAL: "1ms" } });
    assert.deepEqual([retried.code, retried.patches.length], [0, 1]);
  });

  it("does not fail where the pods, after a restart, run an older index that shares a config with the tag's", async (t) => {
    const { stub, workload: made } = await aRegistry(t, "v2");
    const [amd, arm] = ["amd64", "arm64"].map((architecture) => ({ os: "linux", architecture }));
    const index = (note: string, other: string) => {
      const shared = stub.put(`shared ${note}`, imageOf("shared", note));
      return indexOf([shared, amd ?? {}], [stub.put(other, imageOf(other)), arm ?? {}]);
    };
    const was = stub.put("was", index("1", "old"));
    const resolved = stub.put("latest", index("2", "new"));
    const templateAnnotations = { "figwasp/restarted-for": JSON.stringify({ app: resolved }) };
    const workload = { ...made, templateAnnotations };
    const containers = [aContainer({ imageID: `x/app@${was}` })];
    const { code, lines, patches } = await run({ workload, pods: [aPod("p1", "", { containers })] });
    assert.match(
      lines.at(-1) ?? "",
      /^deployment shop\/api: unknown, app was restarted for .*, an older index with some/,
    );
    assert.deepEqual([code, patches], [0, []]);
  });

  it("finds by selector what carries the label, of every kind, in the namespace", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const listed = { deployment: () => [{ name: "a" }], statefulset: () => [{ name: "b" }], daemonset: () => [] };
    const { code, lines, patches, lists } = await run({ workload, pods: [podOf("v1")], listed, env: {} });
    assert.equal(code, 0);
    assert.deepEqual(patches.map(({ subject }) => subject).toSorted(), ["deployment shop/a", "statefulset shop/b"]);
    assert.deepEqual(lists, [
      "deployment in shop by figwasp/target=true",
      "statefulset in shop by figwasp/target=true",
      "daemonset in shop by figwasp/target=true",
    ]);
    assert.equal(lines.at(-1), "2 workloads: 2 restarted");
  });

  it("looks in all namespaces, and at every workload, when told to", async () => {
    const everywhere = await run({ env: { FIGWASP_ALL_NAMESPACES: "true", FIGWASP_TARGET_ALL: "true" } });
    assert.equal(everywhere.lists[0], "deployment in undefined by ");
    assert.deepEqual([everywhere.code, everywhere.lines], [0, ["0 workloads: none found"]]);
  });

  for (const [at, order] of [
    ["lost", "a", "b"],
    ["a", "lost", "b"],
    ["a", "b", "lost"],
  ].entries()) {
    it(`restarts the others where one of them is not there: number ${at + 1}`, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const names = order.map((name) => `sts/${name}`).join(",");
      const scene = { workload: { ...workload }, pods: [podOf("v1")], env: { FIGWASP_TARGET_DEPLOYMENT: names } };
      const { code, lines, patches } = await run(scene);
      assert.equal(code, 1);
      assert.deepEqual(patches.map(({ subject }) => subject).toSorted(), ["statefulset shop/a", "statefulset shop/b"]);
      assert(lines.includes("statefulset shop/lost: failed, Cannot read statefulset shop/lost: not found"));
    });
  }

  it("restarts what it finds where one kind cannot be listed", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const listed = {
      deployment: () => {
        throw new HttpError(403, "cannot list deployments");
      },
      daemonset: () => [{ name: "a" }],
    };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")], listed, env: {} });
    assert.deepEqual([code, patches.length], [1, 1]);
    const reason = "Cannot list deployments in shop: cannot list deployments";
    assert(lines.includes(`deployments in shop: failed, ${reason}`));
  });

  it("ends with 2 where the API server cannot read the selector, and judges nothing", async () => {
    const refuse = () => {
      throw new HttpError(400, "GET /apis/apps/v1/… returned 400: unable to parse requirement");
    };
    const listed = { deployment: refuse, statefulset: refuse, daemonset: refuse };
    const { code, lines, errors } = await run({ listed, argv: ["-l", "a=b=c"], env: {} });
    const given = '--selector (FIGWASP_TARGET_SELECTOR) "a=b=c"';
    const answer = "GET /apis/apps/v1/… returned 400: unable to parse requirement";
    assert.deepEqual([code, lines, errors], [2, [], [`figwasp: Cannot use ${given}: ${answer}`]]);
    for (const argv of [[], ["--all"]])
      assert.equal((await run({ listed, argv, env: {} })).code, 1, "it is no mistake of the user");
  });

  it("looks at four workloads at once, and not five", async (t) => {
    let underWay = 0;
    let most = 0;
    const four = Promise.withResolvers<void>();
    const answers: Answer = async (request, response) => {
      most = Math.max(most, ++underWay);
      if (underWay === 4) four.resolve();
      await four.promise;
      await sleep(20);
      underWay--;
      await holding()(request, response);
    };
    // Each workload has a registry of its own, so that none waits for another's request.
    const stubs = await Promise.all(Array.from({ length: 8 }, () => serve(t, answers)));
    const listed = {
      deployment: () =>
        stubs.map(({ host }, at) => ({ name: `w${at}`, containers: [{ name: "app", image: `${host}/app` }] })),
    };
    const { code } = await run({ pods: [podOf("v1")], listed, env: {} });
    assert.deepEqual([code, most], [0, 4]);
  });

  it("asks once for an image that several workloads run", async (t) => {
    const { stub, workload } = await aRegistry(t, "v1");
    const listed = { deployment: () => ["a", "b", "c", "d", "e", "f"].map((name) => ({ name })) };
    const { code } = await run({ workload, pods: [podOf("v1")], listed, env: {} });
    assert.deepEqual([code, stub.requests.length], [0, 1]);
  });

  it("restarts for the digest that is surely outdated, and fails for the one without an answer", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    stub.put("old", imageOf("v1"));
    const broken = digestOf("broken");
    const proxy = await serve(t, (request, response) => {
      if (request.path.includes(broken)) refusing(400)(request, response);
      else response.writeHead(307, { location: `http://${stub.host}${request.path}` }).end();
    });
    const image = (workload.containers?.[0]?.image ?? "").replace(stub.host, proxy.host);
    const lost = aPod("p2", "", { containers: [aContainer({ imageID: `x@${broken}` })] });
    const scene = { workload: { containers: [{ name: "app", image }] }, pods: [podOf("v1"), lost] };
    const { code, lines, patches } = await run(scene);
    assert.deepEqual([code, patches.length], [1, 1]);
    assert.match(lines[0] ?? "", /outdated, running .*, no answer about another running digest: .* 400 Bad Request/);
    const { lines: json } = await run({ ...scene, argv: ["-o", "json"] });
    assert.equal(mistakesIn(JSON.parse(json.join("\n"))), "");
  });

  it("fails an image that cannot be parsed", async () => {
    const workload = { containers: [{ name: "app", image: "Not/An/Image:" }] };
    const { code, lines } = await run({ workload, pods: [podOf("v1")] });
    assert.equal(code, 1);
    assert.match(lines[0] ?? "", /failed, Cannot parse image "Not\/An\/Image:"/);
  });

  it("judges again by what the tag points to then, where another has restarted it in between", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const onPatch = () => {
      stub.manifests.set("latest", imageOf("v3"));
      throw new HttpError(409, "the object has been modified");
    };
    const { code, patches, lines } = await run({ workload, pods: [podOf("v1")], newPods: [podOf("v3")], onPatch });
    assert.deepEqual([code, patches.length], [0, 1]);
    assert.equal(lines.at(-1), "deployment shop/api: current, nothing to do");
  });

  it("judges again where the Deployment changed in between, five times at most", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    let conflicts = 1;
    const onPatch = () => {
      if (conflicts-- > 0) throw new HttpError(409, "the object has been modified");
    };
    const { code, patches } = await run({ workload, pods: [podOf("v1")], onPatch });
    assert.deepEqual([code, patches.length, stub.lines().filter((line) => line.startsWith("HEAD")).length], [0, 2, 2]);

    conflicts = 5;
    const again = await run({ workload, pods: [podOf("v1")], onPatch });
    assert.deepEqual([again.code, again.patches.length], [1, 5]);
    const reason = "Cannot restart deployment shop/api: the object has been modified";
    assert.equal(again.lines.at(-1), `deployment shop/api: failed, ${reason}`);
  });

  for (const status of [404, 409]) {
    it(`skips what is gone when it would be restarted, where the answer is ${status}`, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const onPatch = () => {
        throw new HttpError(status, "no such thing");
      };
      const listed = { deployment: () => [{ name: "lost" }] };
      const { code, lines, events } = await run({ workload, pods: [podOf("v1")], listed, onPatch, argv: ["--all"] });
      assert.deepEqual([code, lines, events], [0, ["deployment shop/lost: skipped, it is gone"], []]);
    });
  }

  it("does not take a workload for gone that can be read, whatever a webhook answers", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const onPatch = () => {
      throw new HttpError(404, "admission webhook denied the request: not found");
    };
    const { code, lines } = await run({ workload, pods: [podOf("v1")], onPatch });
    assert.equal(code, 1);
    assert.match(lines.at(-1) ?? "", /failed, Cannot restart deployment shop\/api: admission webhook denied/);
  });

  it("writes nothing where something would take the note out, for each run would make another restart", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const { code, lines, events, patches } = await run({
      workload,
      pods: [podOf("v1")],
      lost: ["figwasp/restarted-for"],
    });
    const reason = "the pod template would have no annotation figwasp/restarted-for, something takes it out";
    assert.equal(lines.at(-1), `deployment shop/api: failed, Cannot restart deployment shop/api: ${reason}`);
    assert.deepEqual([code, patches, events], [1, [], []]);
  });

  it("writes nothing where admission pins the template, in which the tag would not be followed any more", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const templateImages = { app: `ghcr.io/acme/api:1.2@${digestOf("new")}` };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")], templateImages });
    assert.match(lines.at(-1) ?? "", /^deployment shop\/api: skipped, pinned by admission: something writes a digest/);
    assert.deepEqual([code, patches], [0, []]);
  });

  it("restarts where admission pins a container that the restart is not for", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const templateImages = { side: `ghcr.io/acme/side:1@${digestOf("new")}` };
    const { code, patches } = await run({ workload, pods: [podOf("v1")], templateImages });
    assert.deepEqual([code, patches.length], [0, 1]);
  });

  const lostNotes: [string, string[], string][] = [
    ["was made, and its note was taken out again", ["figwasp/restarted-for"], "Restarted"],
    ["was taken out again", ["kubectl.kubernetes.io/restartedAt", "figwasp/restarted-for"], "Cannot restart"],
  ];
  for (const [what, lost, verb] of lostNotes) {
    it(`fails where the restart ${what}, for each run would make another`, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const { code, lines, events } = await run({ workload, pods: [podOf("v1")], lostLater: lost });
      const reason = `the pod template has no annotation ${lost.join(", ")} now, something takes it out again`;
      assert.equal(lines.at(-1), `deployment shop/api: failed, ${verb} deployment shop/api: ${reason}`);
      assert.deepEqual([code, events], [1, []]);
    });
  }

  it("fails where the restart is refused", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const onPatch = () => {
      throw new HttpError(403, 'cannot patch resource "deployments"');
    };
    const { code, lines, patches } = await run({ workload, pods: [podOf("v1")], onPatch });
    assert.deepEqual([code, patches.length], [1, 1]);
    assert.match(
      lines.at(-1) ?? "",
      /failed, Cannot restart deployment shop\/api: cannot patch resource "deployments"$/,
    );
  });

  it("answers a bad variable with 2 and one line, before any request", async () => {
    const { code, lines, errors } = await run({ env: { ...env, FIGWASP_CLIENT_TIMEOUT: "soon" } });
    assert.deepEqual([code, lines], [2, []]);
    const needed = "a positive Go duration, such as 30s or 1m30s, is needed";
    const what = "--client-timeout (FIGWASP_CLIENT_TIMEOUT)";
    assert.deepEqual(errors, [`figwasp: Cannot use ${what} "soon": ${needed}`]);
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
    assert.match(errors[0] ?? "", /^TypeError: x is not a function at .*$/);
  });
});

describe("main() and many workloads", () => {
  const crowd = (namespace: string, count: number) =>
    Array.from({ length: count }, (_, at) => ({ namespace, name: `api-${at}`, uid: `${namespace}-${at}` }));

  it("judges each by its own pods", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const listed = { deployment: () => crowd("shop", 8) };
    const podsOf = { "api-3": [podOf("v1")] };
    const { lines, patches } = await run({ workload, pods: [podOf("v2")], podsOf, listed, argv: ["--all"] });
    assert.equal(lines.at(-1), "8 workloads: 7 current, 1 restarted");
    assert.deepEqual(
      patches.map(({ subject }) => subject),
      ["deployment shop/api-3"],
    );
  });

  it("reads anew the pods of one that was changed in between", async (t) => {
    const { workload } = await aRegistry(t, "v2");
    const listed = { deployment: () => crowd("shop", 8) };
    const podsOf = { "api-3": [podOf("v1")] };
    let conflicts = 0;
    const onPatch = () => {
      if (conflicts++ === 0) throw new HttpError(409, "changed");
    };
    const { podReads } = await run({ workload, pods: [podOf("v2")], podsOf, listed, onPatch, argv: ["--all"] });
    assert.equal(podReads.filter((name) => name === "api-3").length, 2);
  });

  it("fails for those alone whose revisions may not be read", async (t) => {
    const { workload } = await aRegistry(t, "v1");
    const listed = { deployment: () => crowd("shop", 8) };
    const podsOf = { "api-3": new HttpError(403, "cannot list controllerrevisions") };
    const { code, lines } = await run({ workload, pods: [podOf("v1")], podsOf, listed, argv: ["--all"] });
    assert.equal(code, 1);
    assert.equal(lines.at(-1), "8 workloads: 7 current, 1 failed");
    assert(lines.some((line) => line.includes("Cannot read deployment shop/api-3: cannot list controllerrevisions")));
  });
});

describe("main() and the Secrets that pods name", () => {
  const basic = 'Basic realm="r"';

  /** The docker config of a Secret, from logins by key. */
  const configOf = (logins: Record<string, Login>) => {
    const auths = Object.entries(logins).map(([key, { user, password }]) => [key, { username: user, password }]);
    return JSON.stringify({ auths: Object.fromEntries(auths) as object });
  };
  const secretOf = (config: string | undefined, type = "kubernetes.io/dockerconfigjson"): Secret => {
    return { type, isOlderForm: false, config: config === undefined ? undefined : Buffer.from(config) };
  };
  const naming = (pod: Pod, ...pullSecrets: string[]): Pod => ({ ...pod, pullSecrets });

  /** A registry that accepts these logins, and an outdated workload with an image in it. */
  async function aPrivateRegistry(t: TestContext, ...logins: Login[]) {
    const stub = await serve(
      t,
      behind(
        basic,
        logins.map(({ authorization }) => authorization),
      ),
    );
    for (const { seenBy } of logins) seenBy.add(stub.name);
    return { stub, workload: { containers: [{ name: "app", image: `${stub.host}/app:latest` }] } };
  }

  it("reads a Secret once a run, and those of pods that count alone", async (t) => {
    const { workload } = await aRegistry(t, "v1");
    const pods = [
      naming(podOf("v1"), "a", "b", "a"),
      naming(podOf("v1", "p2"), "b"),
      naming({ ...podOf("v1", "p3"), isTerminating: true }, "ending"),
      naming({ ...podOf("v1", "p4"), phase: "Failed" }, "evicted"),
    ];
    const secrets = { a: () => secretOf("{}"), b: () => secretOf("{}") };
    const listed = {
      deployment: () => ["x", "y", "z"].map((name) => ({ name })),
      daemonset: () => [{ namespace: "other" }],
    };
    const { code, secrets: read } = await run({ workload, pods, secrets, listed, env: {}, t });
    assert.equal(code, 0);
    assert.deepEqual(read.toSorted(), ["other/a", "other/b", "shop/a", "shop/b"]);
  });

  it("tells with -v what a registry says of a credential, without it", async (t) => {
    const login = plant(t);
    const stub = await serve(t, (request, response) => {
      const realm = `${request.headers.authorization ?? "nobody"} is not known`;
      refusing(401, "", { "www-authenticate": `Basic realm="${realm}"` })(request, response);
    });
    login.seenBy.add(stub.name);
    const workload = { containers: [{ name: "app", image: `${stub.host}/app:latest` }] };
    const secrets = { a: () => secretOf(configOf({ [stub.host]: login })) };
    const { errors } = await run({ workload, pods: [naming(podOf("v1"), "a")], secrets, argv: ["-v", "api"], t });
    assert.match(
      errors.at(-1) ?? "",
      /with Basic: 401 Unauthorized in \d+ ms, www-authenticate Basic realm="Basic \[removed\]/,
    );
  });

  it("notes an image volume, which it does not check", async (t) => {
    const { workload } = await aRegistry(t, "v1");
    const imageVolumes = [{ name: "model", image: "ghcr.io/acme/model:latest" }];
    const { code, lines } = await run({ workload: { ...workload, imageVolumes }, pods: [podOf("v1")] });
    assert.equal(code, 0);
    assert.equal(
      lines.at(-1),
      "deployment shop/api: image volume model (ghcr.io/acme/model:latest) is not checked: figwasp looks at containers alone",
    );
  });

  it("notes a key that gives its credential to registries of whatever owner", async (t) => {
    const { workload } = await aRegistry(t, "v1");
    const secrets = { a: () => secretOf('{"auths":{"*.io":{},"ghcr.io":{}}}') };
    const { lines } = await run({ workload, pods: [naming(podOf("v1"), "a")], secrets, t });
    assert.equal(lines.at(-1), 'key "*.io" of Secret shop/a gives its credential to registries of whatever owner');
  });

  it("reads no Secret where no registry is asked", async (t) => {
    const { stub, workload } = await aRegistry(t, "v2");
    const image = `${stub.host}/app:latest`;
    const outdated = naming(podOf("v1"), "a");
    const never = outdated.containers.map((container) => ({ ...container, pullPolicy: "IfNotPresent" }));
    const scenes: Record<string, Scene> = {
      pinned: { workload: { containers: [{ name: "app", image: `${image}@${digestOf("x")}` }] }, pods: [outdated] },
      "never pulled": { workload, pods: [{ ...outdated, containers: never }] },
      paused: { workload: { ...workload, isPaused: true }, pods: [outdated] },
      "scaled to zero": { workload: { ...workload, replicas: 0 }, pods: [outdated] },
      "on delete": { workload: { ...workload, isOnDelete: true }, pods: [outdated] },
      unobserved: { workload: { ...workload, isObserved: false }, pods: [outdated] },
      pending: { workload, pods: [naming(aPod("p1", ""), "a")] },
      "without a Secret": { workload, pods: [podOf("v1")] },
    };
    for (const [what, scene] of Object.entries(scenes)) assert.deepEqual((await run(scene)).secrets, [], what);
  });

  it("restarts by what a Secret lets it see, and prints and writes none of it", async (t) => {
    const login = plant(t);
    const { stub, workload } = await aPrivateRegistry(t, login);
    const secrets = { pull: () => secretOf(configOf({ [stub.host]: login })) };
    const { code, patches, lines } = await run({ t, workload, pods: [naming(podOf("v0"), "pull")], secrets });
    assert.deepEqual([code, patches.length], [0, 1]);
    assert.equal(lines.at(-1), "deployment shop/api: restarted, outdated: app");
  });

  for (const [what, headers] of Object.entries({ "a challenge": { "www-authenticate": basic }, none: {} })) {
    it(`never restarts for a 401: with ${what}, without a credential and with one`, async (t) => {
      const login = plant(t);
      const stub = await serve(t, refusing(401, "UNAUTHORIZED: no", headers));
      login.seenBy.add(stub.name);
      const workload = { containers: [{ name: "app", image: `${stub.host}/app:latest` }] };
      const secrets = { pull: () => secretOf(configOf({ [stub.host]: login })) };
      for (const names of [[], ["pull"]]) {
        const { code, patches, lines } = await run({ t, workload, pods: [naming(podOf("v0"), ...names)], secrets });
        assert.deepEqual([code, patches], [1, []]);
        assert.match(lines[0] ?? "", /: failed, Cannot resolve "[^"]+": HEAD .* returned 401 Unauthorized/);
        assert.equal(lines.at(-1), "deployment shop/api: failed, no answer for app");
      }
    });
  }

  it("fails the images of the workloads that name a broken one, with its name, and goes on with the others", async (t) => {
    const [login, broken] = [plant(t), plant(t)];
    const { stub, workload } = await aPrivateRegistry(t, login);
    const secrets = {
      good: () => secretOf(configOf({ [stub.host]: login })),
      broken: () =>
        secretOf(JSON.stringify({ auths: { a: { auth: ` ${broken.credential.basic}` }, [stub.host]: {} } })),
    };
    const podsOf = { bad: [naming(podOf("v0"), "good", "broken")], good: [naming(podOf("v0"), "good")] };
    const listed = { deployment: () => [{ name: "bad" }, { name: "good" }], statefulset: () => [{ name: "bad" }] };
    const { code, lines, patches, secrets: read } = await run({ t, workload, podsOf, secrets, listed, env: {} });
    assert.equal(code, 1);
    assert.deepEqual(
      patches.map(({ subject }) => subject),
      ["deployment shop/good"],
    );
    const reason = 'failed, Cannot use Secret shop/broken: its entry "a" has an "auth" that is not base64';
    for (const kind of ["deployment", "statefulset"]) {
      assert(lines.includes(`${kind} shop/bad, container app (${stub.host}/app:latest): ${reason}`), lines.join("\n"));
    }
    assert.deepEqual(read.toSorted(), ["shop/broken", "shop/good"]);
  });

  for (const status of [401, 500]) {
    it(`fails the images where the API server answers ${status} for one`, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const secrets = {
        pull: () => {
          throw new HttpError(status, `GET /api/v1/namespaces/shop/secrets/pull returned ${status}: etcd`);
        },
      };
      const { code, lines, patches } = await run({ workload, pods: [naming(podOf("v1"), "pull")], secrets });
      assert.deepEqual([code, patches], [1, []]);
      assert.match(lines[0] ?? "", /failed, Cannot use Secret shop\/pull: GET \/api.* returned \d+: etcd$/);
    });
  }

  // Each row: a Secret that the kubelet ignores, and figwasp's note.
  const passedOver: [string, (() => Secret) | undefined, string][] = [
    ["is not there", undefined, "Secret shop/pull is not there"],
    [
      "may not be read",
      () => {
        throw new HttpError(403, "GET /api/v1/namespaces/shop/secrets/pull returned 403: forbidden");
      },
      "Secret shop/pull may not be read: GET /api/v1/namespaces/shop/secrets/pull returned 403: forbidden",
    ],
    [
      "is of another type",
      () => secretOf(undefined, "Opaque"),
      'Secret shop/pull of type "Opaque" is no docker config',
    ],
  ];
  for (const [what, secret, note] of passedOver) {
    const secrets: Scene["secrets"] = secret ? { pull: secret } : {};

    it(`notes one that ${what}, once, and goes on`, async (t) => {
      const { workload } = await aRegistry(t, "v2");
      const listed = { deployment: () => [{ name: "x" }, { name: "y" }] };
      const { code, lines, patches } = await run({
        workload,
        pods: [naming(podOf("v1"), "pull")],
        secrets,
        listed,
        env: {},
      });
      assert.deepEqual([code, patches.length], [0, 2]);
      assert.deepEqual(
        lines.filter((line) => line.includes("Secret")),
        [note],
      );
    });

    it(`says it where it is needed: one that ${what}`, async (t) => {
      const { workload } = await aPrivateRegistry(t);
      const { code, lines } = await run({ workload, pods: [naming(podOf("v0"), "pull")], secrets });
      assert.equal(code, 1);
      assert(
        lines[0]?.endsWith(`returned 401 Unauthorized, the registry asks for a credential, and ${note}`),
        lines[0],
      );
    });

    it(`does not note one that ${what} beside a mounted docker config, which lets it in`, async (t) => {
      const login = plant(t);
      const { stub, workload } = await aPrivateRegistry(t, login);
      const folder = await folderOf(t, { "config.json": configOf({ [stub.host]: login }) });
      const pods = [naming(podOf("v0"), "pull")];
      const { code, lines, patches } = await run({
        t,
        workload,
        pods,
        secrets,
        env: { ...env, DOCKER_CONFIG: folder },
      });
      assert.deepEqual([code, patches.length], [0, 1]);
      assert.equal(
        lines.some((line) => line.includes("Secret")),
        false,
      );
    });
  }

  it("tries a mounted docker config after them, be its key the longer one", async (t) => {
    const [first, second] = [plant(t), plant(t)];
    const { stub, workload } = await aPrivateRegistry(t, second);
    first.seenBy.add(stub.name);
    const folder = await folderOf(t, { ".dockerconfigjson": configOf({ [`${stub.host}/app`]: second }) });
    const secrets = { pull: () => secretOf(configOf({ [stub.host]: first })) };
    const pods = [naming(podOf("v0"), "pull")];
    const { code } = await run({ t, workload, pods, secrets, env: { ...env, DOCKER_CONFIG: folder } });
    assert.equal(code, 0);
    const sent = stub.requests.slice(0, 3).map(({ headers }) => headers.authorization);
    assert.deepEqual(sent, [undefined, first.authorization, second.authorization]);
  });

  it("passes over the identity token of one, as the kubelet does, and takes that of a mounted docker config", async (t) => {
    const [token, identityToken] = [plantToken(t, "the registry"), plantToken(t, "the registry")];
    const bearer = 'Bearer realm="/token",service="s"';
    const answers = routes({ "POST /token": giving({ "": token }), "/v2/": behind(bearer, [`Bearer ${token}`]) });
    const config = JSON.stringify({ auths: { "registry.example": { identitytoken: identityToken } } });
    for (const isMounted of [false, true]) {
      const stub = await serve(t, answers);
      stub.name = "the registry";
      const text = config.replace("registry.example", stub.host);
      const folder = await folderOf(t, { "config.json": isMounted ? text : "{}" });
      const workload = { containers: [{ name: "app", image: `${stub.host}/app:latest` }] };
      const secrets = { pull: () => secretOf(isMounted ? "{}" : text) };
      const pods = [naming(podOf("v0"), "pull")];
      const { code } = await run({ t, workload, pods, secrets, env: { ...env, DOCKER_CONFIG: folder } });
      assert.equal(code, isMounted ? 0 : 1);
      assert.equal(stub.lines().includes("POST /token"), isMounted);
    }
  });

  it("answers a mounted docker config that is broken or not there with 2, before any request", async (t) => {
    const { credential } = plant(t);
    const { stub, workload } = await aRegistry(t, "v2");
    const folder = await folderOf(t, { "config.json": `{"auths":{"a":{"auth":"${credential.basic} "}}}` });
    for (const variable of [folder, "/nowhere/at/all"]) {
      const { code, errors } = await run({
        t,
        workload,
        pods: [podOf("v1")],
        env: { ...env, DOCKER_CONFIG: variable },
      });
      assert.equal(code, 2);
      assert.match(errors[0] ?? "", /^figwasp: Cannot use DOCKER_CONFIG "[^"]+": /);
    }
    assert.deepEqual(stub.requests, []);
  });

  it("reads the older form of one", async (t) => {
    const login = plant(t);
    const { stub, workload } = await aPrivateRegistry(t, login);
    const config = JSON.stringify({ [stub.host]: { username: login.user, password: login.password } });
    const secrets = { pull: () => ({ ...secretOf(config, "kubernetes.io/dockercfg"), isOlderForm: true }) };
    const { code, patches } = await run({ t, workload, pods: [naming(podOf("v0"), "pull")], secrets });
    assert.deepEqual([code, patches.length], [0, 1]);
    assert.equal(noteIn(patches).containers["app"]?.wanted, digest);
  });

  it("prints none of them where a registry repeats what it was sent", async (t) => {
    const login = plant(t);
    const stub = await serve(t, (request, response) => {
      const { authorization } = request.headers;
      const decoded = Buffer.from(authorization?.slice("Basic ".length) ?? "", "base64").toString("utf8");
      const headers = { "www-authenticate": basic, warning: `299 - "${authorization}"` };
      return refusing(authorization ? 403 : 401, `DENIED: ${authorization} is ${decoded}`, headers)(request, response);
    });
    login.seenBy.add(stub.name);
    const workload = { containers: [{ name: "app", image: `${stub.host}/app:latest` }] };
    const secrets = { pull: () => secretOf(configOf({ [stub.host]: login })) };
    const { code, lines } = await run({ t, workload, pods: [naming(podOf("v0"), "pull")], secrets });
    assert.equal(code, 1);
    assert.match(lines[0] ?? "", /\(DENIED: Basic \[removed\] is user:\[removed\]\), refused with key/);
    assert(lines.includes(`${stub.host} says: Basic [removed]`), lines.join("\n"));
  });
});

describe("node figwasp.ts", () => {
  interface Ended {
    code: number | null;
    stdout: string;
    stderr: string;
  }

  function start(variables: Record<string, string>, ...argv: string[]) {
    return startProgram([process.execPath, "figwasp.ts", ...argv], variables);
  }

  function startProgram([program = "", ...args]: string[], variables: Record<string, string>) {
    // The environment excludes this machine's own kubeconfig and home folder.
    const child = spawn(program, args, { env: { HOME: "/nowhere", ...variables } });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (stderr += chunk.toString()));
    const ended = new Promise<Ended>((resolve) => {
      child.on("close", (code) => resolve({ code, stdout, stderr }));
    });
    return { child, ended };
  }

  it("prints one line and exits 2 without a cluster, and for a bad variable", async () => {
    const { code, stdout, stderr } = await start({}).ended;
    assert.deepEqual([code, stdout], [2, ""]);
    assert.match(stderr, /^figwasp: Cannot find a cluster: a kubeconfig with a current context is needed, .*\n$/);
    assert.equal((await start({ FIGWASP_RUN_TIMEOUT: "x" }).ended).code, 2);
  });

  it("prints the help on standard output", async () => {
    const { code, stdout, stderr } = await start({}, "--help").ended;
    assert.deepEqual([code, stderr], [0, ""]);
    assert.match(stdout, /^Usage: figwasp/);
  });

  it("exits 1 with one line where the Deployment is not there", async (t) => {
    const stub = await serveApi(t, {});
    const { code, stdout } = await start({ ...env, KUBECONFIG: process.env["KUBECONFIG"] ?? "" }).ended;
    assert.equal(code, 1);
    const path = "/apis/apps/v1/namespaces/shop/deployments/api";
    const reason = `Cannot read deployment shop/api: GET ${path} returned 404: no such thing`;
    assert.equal(stdout, `deployment shop/api: failed, ${reason}\n`);
    assert.deepEqual(stub.lines(), [`GET ${path}`]);
  });

  it("goes on to its end where nobody reads what it says", async (t) => {
    const stub = await serveApi(t, {});
    const { child, ended } = start({ ...env, KUBECONFIG: process.env["KUBECONFIG"] ?? "" }, "a", "b", "c");
    child.stdout.destroy();
    const { code, stderr } = await ended;
    assert.deepEqual([code, stderr], [1, ""]);
    assert.equal(stub.requests.length, 3);
  });

  /** Starts a figwasp that has printed more than a pipe buffers, to a reader that has not read anything yet. */
  async function startUnread(t: TestContext) {
    const stub = await serveApi(t, {});
    const names = Array.from({ length: 900 }, (_, at) => `${"long".repeat(60)}-${at}`);
    const started = start({ KUBECONFIG: process.env["KUBECONFIG"] ?? "" }, "-o", "json", ...names);
    started.child.stdout.pause();
    while (stub.requests.length < names.length && started.child.exitCode === null) await sleep(20);
    await sleep(300);
    assert.equal(started.child.exitCode, null);
    return started;
  }

  it("ends when a slow reader has all that it says", async (t) => {
    const { child, ended } = await startUnread(t);
    child.stdout.resume();
    const { code, stdout } = await ended;
    assert.equal(code, 1);
    assert.equal((JSON.parse(stdout) as { workloads: object[] }).workloads.length, 900);
  });

  it("ends on SIGTERM where a reader takes nothing", async (t) => {
    const { child, ended } = await startUnread(t);
    child.kill("SIGTERM");
    await once(child, "exit");
    child.stdout.resume();
    assert.equal((await ended).code, 1);
  });

  it("ends within its deadline where the API server never answers", async (t) => {
    const stub = await serve(t, () => {});
    await serveApi(t, {});
    const variables = { ...env, KUBECONFIG: await kubeconfigOf(t, stub.host), FIGWASP_RUN_TIMEOUT: "100ms" };
    const { code, stdout } = await start(variables).ended;
    assert.equal(code, 1);
    assert.match(stdout, /was ended: the run has reached its deadline of 0.1 s\n$/);
  });

  it("ends within its deadline where a credential plugin takes its time, and fails where it fails", async (t) => {
    const plugin = async (command: string, ...args: string[]) => {
      const config = JSON.parse(kubeconfigFor("h")) as { users: object[] };
      const exec = { apiVersion: "client.authentication.k8s.io/v1", command, args, interactiveMode: "Never" };
      config.users = [{ name: "stub", user: { exec } }];
      return `${await folderOf(t, { kubeconfig: JSON.stringify(config) })}/kubeconfig`;
    };
    const { PATH = "" } = process.env;
    const slow = await start({ ...env, PATH, KUBECONFIG: await plugin("sleep", "5"), FIGWASP_RUN_TIMEOUT: "1s" }).ended;
    assert.equal(slow.code, 1);
    assert.equal(slow.stderr, "figwasp: Cannot connect: the run has reached its deadline of 1 s\n");
    const broken = await start({ ...env, PATH, KUBECONFIG: await plugin("false") }).ended;
    assert.equal(broken.code, 1);
    assert.match(broken.stderr, /^figwasp: Cannot authenticate as the kubeconfig says: .+\n$/);
  });

  describe("on a terminal", { skip: !existsSync("/usr/bin/script") }, () => {
    // The run lasts long enough for figwasp to show its progress.
    const onTerminal = async (t: TestContext, variables: Record<string, string>): Promise<string> => {
      const stub = await serve(t, () => {});
      const KUBECONFIG = await kubeconfigOf(t, stub.host);
      const asked = `'${process.execPath}' figwasp.ts`;
      const all = { ...env, KUBECONFIG, TERM: "xterm-256color", FIGWASP_RUN_TIMEOUT: "1500ms", ...variables };
      const { code, stdout } = await startProgram(["/usr/bin/script", "-qefc", asked, "/dev/null"], all).ended;
      assert.equal(code, 1);
      return stdout;
    };

    it("shows how far it is, takes that away, and tells the end in colours", async (t) => {
      const shown = await onTerminal(t, {});
      const [progress = "", end = ""] = shown.split("\r\u001b[Kdeployment shop/api: ");
      assert.equal(progress, "\r\u001b[Kreading the workloads …\r\u001b[K1 of 1 workloads looked at …");
      assert(end.startsWith("\u001b[31mfailed\u001b[39m, Cannot read "), end);
    });

    it("has no colours where nobody wants them", async (t) => {
      assert.match(await onTerminal(t, { NO_COLOR: "1" }), /deployment shop\/api: failed, Cannot read /);
    });
  });

  it("ends on SIGTERM while it waits for a busy API server, with the answer of that", async (t) => {
    const asked = Promise.withResolvers<void>();
    const stub = await serve(t, (_request, response) => {
      response.writeHead(429, { "retry-after": "50" }).end(JSON.stringify({ message: "busy" }));
      setTimeout(asked.resolve, 200);
    });
    const { child, ended } = start({ ...env, KUBECONFIG: await kubeconfigOf(t, stub.host) });
    await asked.promise;
    const beganMs = performance.now();
    child.kill("SIGTERM");
    const { code, stdout } = await ended;
    assert(performance.now() - beganMs < 10_000);
    assert.equal(code, 1);
    assert.match(stdout, /: failed, .* returned 429: busy, asked once until SIGTERM was received\n/);
  });

  it("ends on SIGTERM, and says so", async (t) => {
    const asked = Promise.withResolvers<void>();
    const stub = await serve(t, () => asked.resolve());
    const { child, ended } = start({ ...env, KUBECONFIG: await kubeconfigOf(t, stub.host) });
    await asked.promise;
    child.kill("SIGTERM");
    const { code, stdout } = await ended;
    assert.equal(code, 1);
    const reason =
      /^deployment shop\/api: failed, Cannot read deployment shop\/api: .* was ended: SIGTERM was received\n/;
    assert.match(stdout, reason);
  });
});

async function kubeconfigOf(t: TestContext, host: string): Promise<string> {
  return `${await folderOf(t, { kubeconfig: kubeconfigFor(host) })}/kubeconfig`;
}
