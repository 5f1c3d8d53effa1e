import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { Network } from "testcontainers";
import { eventually } from "./eventually.ts";
import { type HostsFolder, LocalRegistry, removeImages } from "./registry.ts";
import { $, $undo, interruption, shell } from "./shell.ts";

/** The repository's root, from which the README's commands are run. */
export const root = new URL("../..", import.meta.url).pathname;

/** What all scenarios of a run share: one cluster, one registry, one image of figwasp. */
export interface Environment {
  id: string;
  network: string;
  registry: LocalRegistry;
  /** Where that registry keeps what is pushed: a Docker volume, for other registries in front of the same images. */
  volume: string;
  /** figwasp's image, as `repository:tag` of the registry. */
  figwaspImage: string;
  kubeconfig: string;
  /** Tells the nodes how to reach registries. */
  connectNodes: (hosts: HostsFolder) => Promise<void>;
  /** What the API server wrote down of a ServiceAccount's requests, in their order. */
  readAudit: (user: string) => Promise<AuditEvent[]>;
}

export interface AuditEvent {
  verb: string;
  user: { username: string };
  requestURI: string;
  /** Absent where a path was asked for, such as /version. */
  objectRef?: { resource: string; subresource?: string; namespace?: string; name?: string };
  requestObject?: unknown;
  responseStatus: { code: number };
}

/** `patch deployments`, `get pods/log`, `get /version`: what was asked for. */
export function askedFor({ verb, objectRef, requestURI }: AuditEvent): string {
  const { resource, subresource } = objectRef ?? { resource: new URL(requestURI, "https://api-server").pathname };
  return `${verb} ${[resource, subresource ?? []].flat().join("/")}`;
}

const undo: { what: string; how: () => Promise<unknown> }[] = [];
let building: Promise<Environment> | undefined;

/** Builds the environment in five steps, each of which says what it does and how long it took.
 *  What it makes is deleted by `tearDown`, also when the run is interrupted. */
export function setUp(): Promise<Environment> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void interrupt(signal));
  building ??= build();
  return building;
}

async function build(): Promise<Environment> {
  await step("1/5 look for docker, kind and kubectl", checkPrograms);
  const id = `figwasp-${randomBytes(3).toString("hex")}`;
  const folder = await mkdtemp(join(tmpdir(), `${id}-`));
  undo.push({ what: `folder ${folder}`, how: () => rm(folder, { recursive: true, force: true }) });
  const kubeconfig = join(folder, "kubeconfig");

  const registry = await step("2/5 start the registry", () => startRegistry(id));
  const figwaspImage = "figwasp:acceptance";
  await allDone([
    step("3/5 create the cluster", () => createCluster(id, kubeconfig)),
    step("4/5 build and push the image of figwasp", () => registry.push(root, figwaspImage)),
  ]);
  const connectNodes = (hosts: HostsFolder) => connect(id, hosts);
  await step("5/5 let the nodes pull from the registry", () => connectNodes(registry.hosts));
  const readAudit = (user: string) => auditOf(`${id}-control-plane`, user);
  return { id, network: id, registry, volume: id, figwaspImage, kubeconfig, connectNodes, readAudit };
}

// As Promise.all, but it leaves nothing under way when it fails: what is still being made could not be deleted.
async function allDone(work: Promise<unknown>[]): Promise<void> {
  for (const result of await Promise.allSettled(work)) if (result.status === "rejected") throw result.reason;
}

const programs = {
  docker: { probe: ["version"], get: "install Docker and start it: https://docs.docker.com/get-docker/" },
  kind: { probe: ["version"], get: "install kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation" },
  kubectl: { probe: ["version", "--client"], get: "install kubectl: https://kubernetes.io/docs/tasks/tools/" },
};

async function checkPrograms(): Promise<void> {
  const missing: string[] = [];
  for (const [program, { probe, get }] of Object.entries(programs)) {
    const { exitCode, stderr } = await $`${program} ${probe}`.nothrow();
    const reason = exitCode === 127 ? "it is not on the PATH" : stderr.trim().split("\n")[0];
    if (exitCode !== 0) missing.push(`Cannot run ${program}: ${reason}; ${get}`);
  }
  if (missing.length > 0) throw new Error(missing.join("\n"));
}

// The network is the run's own, so that nothing of it is left on the one that other kind clusters share.
async function startRegistry(id: string): Promise<LocalRegistry> {
  if (process.env["KEEP"]) process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true"; // the reaper would not keep it
  // Deleted last: what was interrupted may still use it.
  undo.push({ what: `volume ${id}`, how: () => $undo`docker volume rm --force ${id}` });
  await new Network({ nextUuid: () => id }).start();
  undo.push({ what: `network ${id}`, how: () => removeNetwork(id) });
  const registry = await LocalRegistry.start(`${id}-registry`, id, { volume: id });
  undo.push({ what: `registry ${id}-registry`, how: () => registry.stop() });
  undo.push({ what: "images that were built", how: () => removeImages(id) });
  return registry;
}

// With whatever was interrupted has left on it: Docker may still be making a container whose maker has ended.
async function removeNetwork(name: string): Promise<void> {
  const remove = async () => {
    const left = await $undo`docker ps --all --quiet --filter network=${name}`.lines();
    if (left.length > 0) await $undo`docker rm --force --volumes ${left}`;
    await $undo`docker network rm ${name}`;
  };
  await eventually(remove, { deadlineMs: 30_000, everyMs: 1000 });
}

async function createCluster(id: string, kubeconfig: string): Promise<void> {
  undo.push({ what: `cluster ${id}`, how: () => $undo`kind delete cluster --name ${id} --kubeconfig ${kubeconfig}` });
  const kind = shell({ env: { ...process.env, KIND_EXPERIMENTAL_DOCKER_NETWORK: id } });
  await kind`kind create cluster --name ${id} --config ${join(root, "kind-config.yaml")} --kubeconfig ${kubeconfig} --wait 3m`;
}

async function connect(cluster: string, hosts: HostsFolder): Promise<void> {
  for (const node of await $`kind get nodes --name ${cluster}`.lines()) {
    for (const [path, content] of Object.entries(hosts)) {
      const file = `/etc/containerd/certs.d/${path}`;
      await $`docker exec ${node} mkdir -p ${dirname(file)}`;
      await $({ input: content })`docker exec -i ${node} cp /dev/stdin ${file}`;
    }
  }
}

async function auditOf(node: string, user: string): Promise<AuditEvent[]> {
  const lines = await $`docker exec ${node} cat /var/log/kubernetes/audit.log`.lines();
  return lines.map((line) => JSON.parse(line) as AuditEvent).filter((event) => event.user.username === user);
}

let tearing: Promise<void> | undefined;

/** Deletes what `setUp` made, newest first; with KEEP=1 prints how to look inside instead. It is done once, for an
 *  interruption and for the end of the run, which it brings about: who asks while it is under way waits for all of it. */
export function tearDown(): Promise<void> {
  tearing ??= deleteAll();
  return tearing;
}

async function deleteAll(): Promise<void> {
  const environment = await building?.catch(() => undefined);
  if (process.env["KEEP"] && environment) {
    say(describeKept(environment));
    return;
  }
  const failures: unknown[] = [];
  for (let last = undo.pop(); last; last = undo.pop()) {
    await last
      .how()
      .catch((error: unknown) => failures.push(new Error(`Cannot delete ${last.what}`, { cause: error })));
  }
  if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
}

function describeKept({ id, kubeconfig, registry }: Environment): string {
  return [
    "kept, as KEEP is set:",
    `  export KUBECONFIG=${kubeconfig}   # then kubectl get pods -A`,
    `  curl http://${registry.host}/v2/_catalog`,
    "and to delete it:",
    `  kind delete cluster --name ${id}; docker rm -fv ${id}-registry; docker network rm ${id}; docker volume rm ${id}`,
    `  docker image rm -f $(docker image ls -aq --filter label=figwasp.acceptance=${id}); rm -r ${dirname(kubeconfig)}`,
  ].join("\n");
}

let isInterrupted = false;

async function interrupt(signal: NodeJS.Signals): Promise<void> {
  if (isInterrupted) return;
  isInterrupted = true;
  say(`${signal}: deleting what was made, please wait`);
  interruption.abort();
  delete process.env["KEEP"];
  const code = await tearDown().then(
    () => 130,
    (error: unknown) => {
      say(String(error));
      return 1;
    },
  );
  process.exit(code);
}

async function step<T>(name: string, work: () => Promise<T>): Promise<T> {
  const started = Date.now();
  say(`${name} …`);
  const result = await work();
  say(`${name}: ${((Date.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

function say(text: string): void {
  process.stderr.write(`acceptance: ${text}\n`);
}
