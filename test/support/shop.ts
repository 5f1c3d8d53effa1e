/**
 * The cluster in the examples of the documentation: plain data with a namespace `shop`, and a registry on loopback under
 * the name ghcr.io.
 */
import type { TestContext } from "node:test";
import { main } from "../../figwasp.ts";
import type { Outside } from "../../lib/command/outside.ts";
import type { Cluster } from "../../lib/kubernetes/cluster.ts";
import type { Pod, Workload } from "../../lib/kubernetes/objects.ts";
import { HttpError } from "../../lib/errors.ts";
import { aContainer, aPod, aWorkload, owning } from "./cluster.ts";
import { imageOf, leadTo, sha256 } from "./registry.ts";
import { serve, type Stub } from "./serve.ts";

/** What a run prints there, line by line, with a fixed clock. */
export async function runInShop(argv: readonly string[], seen: Partial<Outside> = {}): Promise<string[]> {
  const undo: (() => unknown)[] = [];
  // The part of a test that the stub uses: its `after` hooks.
  const t = { after: (how: () => unknown) => undo.push(how) } as unknown as TestContext;
  const lines: string[] = [];
  written.clear();
  try {
    const { host } = await serveImages(t);
    await main(
      argv,
      { FIGWASP_CERTS_DIR: "/nowhere" },
      {
        fetch: leadTo({ "https://ghcr.io": `http://${host}` }),
        connect: async () => cluster,
        now: () => new Date("2026-11-21T10:00:00Z"),
        log: (line) => lines.push(...line.split("\n")),
        ...seen,
      },
    );
  } finally {
    for (const how of undo.toReversed()) await how();
  }
  return lines;
}

// Serves every tag except that of `worker`, which does not exist, and the manifests that still run.
function serveImages(t: TestContext): Promise<Stub> {
  return serve(t, ({ method, path, headers }, response) => {
    const [, name = "", wanted = ""] = /^\/v2\/acme\/(\w+)\/manifests\/(.+)$/.exec(path) ?? [];
    const { body, type } = imageOf(wanted === running(name) ? `old ${name}` : name);
    const isThere = name !== "worker";
    const status = headers.authorization === undefined ? 401 : isThere ? 200 : 404;
    const challenge = status === 401 && { "www-authenticate": 'Basic realm="acme"' };
    const found = status === 200 && { "docker-content-digest": sha256(body), "content-type": type };
    response.writeHead(status, { ...challenge, ...found });
    response.end(method === "GET" && status === 200 ? body : undefined);
  });
}

function running(name: string): string {
  return sha256(imageOf(name === "web" ? name : `old ${name}`).body);
}

const pinned = `envoy:v1.31@${sha256("envoy")}`;
const listed = [
  { name: "api", containers: [container("app", "ghcr.io/acme/api:latest"), container("proxy", pinned)] },
  { name: "web", containers: [container("nginx", "ghcr.io/acme/web:latest")] },
  { name: "worker", containers: [container("worker", "ghcr.io/acme/worker:edge")] },
  { name: "db", kind: "statefulset" as const, containers: [container("postgres", "postgres:17")] },
];
// `my-app`, which the README restarts by name, is not in the lists.
const workloads = [...listed, { name: "my-app", containers: [container("app", "ghcr.io/acme/app:latest")] }].map(
  (workload) => aWorkload(workload),
);

function container(name: string, image: string): Workload["containers"][number] {
  return { name, image };
}

function podsOf(name: string): Pod[] {
  const { containers = [] } = workloads.find((workload) => workload.name === name) ?? {};
  const started = containers.map((each) => {
    const pullPolicy = name === "db" ? "IfNotPresent" : "Always";
    const image = each.image.replace(/[:@].*/, "");
    return aContainer({
      name: each.name,
      pullPolicy,
      imageID: `${image}@${running(image.replace("ghcr.io/acme/", ""))}`,
    });
  });
  return [1, 2].map((number) => aPod(`${name}-${number}`, "", { containers: started, pullSecrets: ["pull"] }));
}

/** The annotations of pod templates, by the name of the workload. */
const written = new Map<string, Record<string, string>>();

const cluster: Cluster = {
  namespace: "shop",
  clock: { aheadMs: 0 },
  getWorkload: async ({ kind, name }) => {
    const found = workloads.find((workload) => workload.kind === kind && workload.name === name);
    if (!found) throw new HttpError(404, `there is no ${kind} ${name}`);
    return { ...found, templateAnnotations: written.get(name) ?? {} };
  },
  listWorkloads: async (kind) => workloads.slice(0, listed.length).filter((workload) => workload.kind === kind),
  readOwnedObjects: async (workload) => owning(workload, podsOf(workload.name)),
  getSecret: async () => {
    const config = Buffer.from(JSON.stringify({ auths: { "ghcr.io": { username: "acme", password: "a password" } } }));
    return { type: "kubernetes.io/dockerconfigjson", isOlderForm: false, config };
  },
  mayI: async ({ verb, resource, name }) => resource !== "nodes" && (verb !== "patch" || name !== "db"),
  recordEvent: async () => {},
  readRevisions: async () => [],
  getNodePlatform: async () => undefined,
  annotateTemplate: async ({ name }, annotations, { isDryRun }) => {
    if (!isDryRun) written.set(name, annotations);
    return { lostAnnotations: [], images: new Map() };
  },
};
