import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import {
  connect,
  type Handle,
  handleFile,
  idOf,
  isToBeKept,
  mayUseKept,
  nameOfRegistry,
  root,
  runFolder,
  runId,
  runLabel,
} from "./environment.ts";
import { eventually } from "./eventually.ts";
import { interruption, Workers } from "./interruption.ts";
import { LocalRegistry } from "./registry.ts";
import { $, $undo, shell } from "./shell.ts";

// The main thread makes what all scenarios share, and deletes it. The workers learn of it from `handleFile`.

/** How long each step of making and deleting the environment took. */
export const steps: { name: string; seconds: number }[] = [];

const undo: Deletion[] = [];
let workers: Workers | undefined;
let making: Promise<Handle> | undefined;
/** Whether this run leaves the cluster behind for later runs. */
let isKept = false;
let hasMadeCluster = false;

/** Makes the environment, or finds one that was kept, and writes it down for the workers. Each step prints what it does
 *  and how long it took. `tearDown` deletes what was made, also when the run is interrupted. */
export async function setUp(): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void interrupt(signal));
  workers = new Workers();
  making ??= make();
  await writeFile(handleFile, JSON.stringify(await making));
}

async function make(): Promise<Handle> {
  await step("look for docker, kind and kubectl", checkPrograms);
  await mkdir(runFolder);
  undo.push({ what: `folder ${runFolder}`, how: () => removeFolder(runFolder) });
  await writeFile(join(runFolder, "pid"), String(process.pid));
  for (const folder of await abandonedFolders())
    await step(`delete what ${folder} was for`, () => removeAbandoned(folder));
  const configuration = await hashConfiguration();
  const isMine = mayUseKept && (await lock(configuration));
  const kept = isMine ? await findKept(configuration) : undefined;
  isKept = isMine && (kept !== undefined || isToBeKept);
  if (isToBeKept && !isMine) say("another run uses the kept cluster: this one makes its own, and deletes it");
  const handle = await (kept ? reuse(kept) : create(isKept ? configuration : undefined));
  undo.push({ what: "what scenarios have made", how: () => removeOwn(handle) });
  return handle;
}

// --- A new environment ---

type Built = Pick<Handle, "bundle" | "figwaspImage" | "echoImage">;
type Made = Omit<Handle, keyof Built>;

async function create(keptAs: string | undefined): Promise<Handle> {
  const cluster = `figwasp-${runId}`;
  const kubeconfig = join(runFolder, "kubeconfig");
  const registry = await step("start the registry", () => startRegistry(cluster, keptAs));
  const [built] = await allDone([
    build(cluster, registry),
    step("create the cluster", () => createCluster(cluster, kubeconfig)),
  ]);
  const nodes = await nodesOf(cluster);
  await step("let the nodes pull from the registry", () => connect(nodes, registry.hosts));
  return { cluster, kubeconfig, nodes, registryPort: registry.port, ...built };
}

// Works as Promise.all does, but waits for everything when something fails: what is still being made cannot be deleted.
async function allDone<A, B>(work: [Promise<A>, Promise<B>]): Promise<[A, B]> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

const programs = {
  docker: { probe: ["version"], get: "install Docker and start it: https://docs.docker.com/get-docker/" },
  kind: { probe: ["version"], get: "install kind: https://kind.sigs.k8s.io/docs/user/quick-start/#installation" },
  kubectl: { probe: ["version", "--client"], get: "install kubectl: https://kubernetes.io/docs/tasks/tools/" },
};

async function checkPrograms(): Promise<void> {
  const found = Object.entries(programs).map(async ([program, { probe, get }]) => {
    const { exitCode, stderr } = await $`${program} ${probe}`.nothrow();
    const reason = exitCode === 127 ? "it is not on the PATH" : stderr.trim().split("\n")[0];
    return exitCode === 0 ? [] : [`Cannot run ${program}: ${reason}; ${get}`];
  });
  const missing = (await Promise.all(found)).flat();
  if (missing.length > 0) throw new Error(missing.join("\n"));
}

// The cluster has a network of its own, so that nothing remains on the network that other kind clusters share.
async function startRegistry(cluster: string, keptAs: string | undefined): Promise<LocalRegistry> {
  undo.push({ what: `cluster ${cluster}`, how: async () => isKept || deleteEnvironment(cluster) });
  hasMadeCluster = true;
  await $`docker network create ${cluster}`;
  return LocalRegistry.start({
    name: nameOfRegistry(cluster),
    network: cluster,
    labels: keptAs === undefined ? {} : { [keptLabel]: keptAs },
    volume: { name: cluster, path: "/var/lib/registry" },
  });
}

async function createCluster(cluster: string, kubeconfig: string): Promise<void> {
  const kind = shell({ env: { ...process.env, KIND_EXPERIMENTAL_DOCKER_NETWORK: cluster } });
  await kind`kind create cluster --name ${cluster} --config ${join(root, "kind-config.yaml")} --kubeconfig ${kubeconfig} --wait 3m`;
}

async function nodesOf(cluster: string): Promise<string[]> {
  return $`kind get nodes --name ${cluster}`.lines();
}

async function build(cluster: string, registry: LocalRegistry): Promise<Built> {
  const where = { cluster, registry };
  const [[figwaspImage, echoImage], bundle] = await allDone([
    allDone([
      step("build and push the image of figwasp", () => pushImage("figwasp", root, where)),
      step("build and push the image of the echo server", () => pushImage("echo-server", echoServer, where)),
    ]),
    step("bundle figwasp for this machine", bundleFigwasp),
  ]);
  return { bundle, figwaspImage, echoImage };
}

async function bundleFigwasp(): Promise<string> {
  const folder = join(runFolder, "dist");
  await shell({ cwd: root })`${process.execPath} build.ts ${folder}`;
  return join(folder, "figwasp.cjs");
}

const echoServer = join(root, "fixtures/echo-server");

// The tag is taken from the ID of the image. A node of a kept cluster does not pull a tag again that it already has, and would
// go on with an older figwasp.
async function pushImage(
  repository: string,
  folder: string,
  { cluster, registry }: { cluster: string; registry: LocalRegistry },
): Promise<string> {
  // An image is one manifest, whatever builder this machine has, since the scenarios make their own indexes.
  const docker = shell({ env: { ...process.env, BUILDX_NO_DEFAULT_ATTESTATIONS: "1", DOCKER_BUILDKIT: "1" } });
  const id = await docker`docker build --quiet --label ${labelOf(cluster)} ${folder}`.text();
  const image = `${repository}:${id.trim().replace("sha256:", "").slice(0, 12)}`;
  if (await registry.has(image)) return image;
  await $`docker tag ${id.trim()} ${registry.host}/${image}`;
  await $`docker push ${registry.host}/${image}`;
  return image;
}

// --- An environment that was kept ---

const keptLabel = "figwasp.acceptance.kept";

// A run uses a kept cluster only if it has the same configuration, and is of the same clone, whose files its node mounts.
async function hashConfiguration(): Promise<string> {
  const hash = createHash("sha256").update(root);
  for (const file of ["kind-config.yaml", "fixtures/audit-policy.yaml"]) hash.update(await readFile(join(root, file)));
  return hash.digest("hex").slice(0, 12);
}

// Of two runs in one kept cluster, each would delete the other's namespaces. The lock of a process that has ended is void.
async function lock(configuration: string): Promise<boolean> {
  const file = join(tmpdir(), `figwasp-kept-${configuration}.lock`);
  try {
    await writeFile(file, String(process.pid), { flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if (isRunning(Number(await readFile(file, "utf8")))) return false;
    await rm(file, { force: true });
    return lock(configuration);
  }
  undo.push({ what: `lock ${file}`, how: () => rm(file, { force: true }) });
  return true;
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function findKept(configuration: string): Promise<Made | undefined> {
  const filters = ["--filter", `label=${keptLabel}=${configuration}`];
  const [registry] = await $`docker ps --all ${filters} --format ${"{{.Names}}"}`.lines();
  if (registry === undefined) return undefined;
  const cluster = registry.replace(/-registry$/, "");
  try {
    return await step(`use the kept cluster ${cluster}`, () => lookAt(cluster));
  } catch (error) {
    if (interruption.signal.aborted) throw error;
    say(`the kept cluster ${cluster} is of no use any more: ${error instanceof Error ? error.message : String(error)}`);
    await step(`delete the cluster ${cluster}`, () => deleteEnvironment(cluster));
    return undefined;
  }
}

async function lookAt(cluster: string): Promise<Made> {
  const kubeconfig = join(runFolder, "kubeconfig");
  const [text, nodes, published] = await Promise.all([
    $`kind get kubeconfig --name ${cluster}`.text(),
    nodesOf(cluster),
    $`docker port ${nameOfRegistry(cluster)} 5000`.text(),
  ]);
  await writeFile(kubeconfig, text, { mode: 0o600 });
  await $`kubectl --kubeconfig ${kubeconfig} --request-timeout 5s get --raw /readyz`;
  return { cluster, kubeconfig, nodes, registryPort: Number(/:(\d+)$/m.exec(published)?.[1]) };
}

// Earlier runs have left namespaces to be looked at. They are deleted, so that no scenario meets their workloads.
async function reuse(kept: Made): Promise<Handle> {
  const registry = new LocalRegistry(nameOfRegistry(kept.cluster), kept.registryPort);
  const remove = $`kubectl --kubeconfig ${kept.kubeconfig} delete namespace --selector ${runLabel} --wait=false`;
  const [built] = await allDone([build(kept.cluster, registry), remove]);
  return { ...kept, ...built };
}

// --- The end ---

let tearing: Promise<void> | undefined;

/** Deletes what this run has made, newest first. If the cluster is kept, it prints how to look inside. All of this is done
 *  once: a second caller waits for the first, since an interruption brings about the end of the run, which calls this too. */
export function tearDown(): Promise<void> {
  tearing ??= step("delete what was made", deleteAll);
  return tearing;
}

async function deleteAll(): Promise<void> {
  const handle = await making?.catch(() => undefined);
  isKept &&= handle !== undefined;
  if (isKept && handle) say(describeKept(handle));
  await deleteEach(undo.splice(0).toReversed());
}

interface Deletion {
  what: string;
  how: () => Promise<unknown>;
}

// In their order, whatever becomes of each. Throws at the end what could not be deleted.
async function deleteEach(deletions: Deletion[]): Promise<void> {
  const failures: unknown[] = [];
  for (const { what, how } of deletions) {
    await how().catch((cause: unknown) =>
      failures.push(new Error(`Cannot delete ${what}: ${String(cause)}`, { cause })),
    );
  }
  if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join("; "));
}

// Deletes what is left of scenarios that were interrupted, or that could not delete what they made.
async function removeOwn({ kubeconfig }: Handle): Promise<void> {
  await removeScenarios(runId);
  if (!isKept || !interruption.signal.aborted) return;
  const selector = `${runLabel}=${runId}`;
  await $undo`kubectl --kubeconfig ${kubeconfig} delete namespace --selector ${selector} --wait=false`;
}

async function removeScenarios(run: string): Promise<void> {
  await removeContainers(`label=${runLabel}=${run}`);
  await removeImages(`reference=*/*${run}*/*`);
}

// A run that was killed deletes nothing: a later one does it. Each run writes its process into its folder.
async function abandonedFolders(): Promise<string[]> {
  const found = (await readdir(tmpdir())).filter((name) => /^figwasp-[0-9a-f]{6}$/.test(name));
  const folders: string[] = [];
  for (const folder of found.map((name) => join(tmpdir(), name))) {
    const pid = await readFile(join(folder, "pid"), "utf8").catch(() => undefined);
    if (pid !== undefined && !isRunning(Number(pid))) folders.push(folder);
  }
  return folders;
}

async function removeAbandoned(folder: string): Promise<void> {
  const cluster = basename(folder);
  await removeScenarios(idOf(folder));
  const kept =
    await $`docker ps --all --quiet --filter label=${keptLabel} --filter name=${nameOfRegistry(cluster)}`.lines();
  if (kept.length === 0) await deleteEnvironment(cluster);
  await removeFolder(folder);
}

async function removeFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
}

async function deleteEnvironment(cluster: string): Promise<void> {
  const kubeconfig = join(runFolder, "kubeconfig");
  const patience = { deadlineMs: 30_000, everyMs: 1000, signal: never };
  await deleteEach([
    { what: "the cluster", how: () => $undo`kind delete cluster --name ${cluster} --kubeconfig ${kubeconfig}` },
    { what: "the network", how: () => eventually(() => removeNetwork(cluster), patience) },
    { what: "the images", how: () => removeImages(`label=${labelOf(cluster)}`) },
    { what: "the volume", how: () => $undo`docker volume rm --force ${cluster}` },
  ]);
}

const never = new AbortController().signal;

// Deletes the containers on the network first. Docker may still be making one whose maker was interrupted.
async function removeNetwork(name: string): Promise<void> {
  await removeContainers(`network=${name}`);
  const networks = await $undo`docker network ls --quiet --filter ${`name=^${name}$`}`.lines();
  if (networks.length > 0) await $undo`docker network rm ${name}`;
}

async function removeContainers(filter: string): Promise<void> {
  const left = await $undo`docker ps --all --quiet --filter ${filter}`.lines();
  if (left.length > 0) await $undo`docker rm --force --volumes ${left}`;
}

async function removeImages(filter: string): Promise<void> {
  const ids = await $undo`docker image ls --all --quiet --filter ${filter}`.lines();
  if (ids.length > 0) await $undo`docker image rm --force ${[...new Set(ids)]}`;
}

// This label is on the images that are built for a cluster, which are kept with it.
function labelOf(cluster: string): string {
  return `figwasp.acceptance=${cluster}`;
}

function describeKept({ cluster, registryPort }: Handle): string {
  return [
    "kept for the next run:",
    `  kind export kubeconfig --name ${cluster}   # then kubectl get pods -A`,
    `  curl http://localhost:${registryPort}/v2/_catalog`,
    "and to delete it:",
    `  kind delete cluster --name ${cluster}; docker rm -fv ${nameOfRegistry(cluster)}; docker network rm ${cluster}; docker volume rm ${cluster}`,
    `  docker image rm -f $(docker image ls -aq --filter label=${labelOf(cluster)})`,
  ].join("\n");
}

let isInterrupted = false;

async function interrupt(signal: NodeJS.Signals): Promise<void> {
  if (isInterrupted) return;
  isInterrupted = true;
  say(`${signal}: deleting what was made, please wait`);
  interruption.abort();
  if (!(await workers?.interrupt(60_000))) say("a scenario has not come to rest: it may leave something behind");
  // A cluster that was kept before this run stays. A cluster that this run has made is deleted, even with KEEP=1.
  isKept &&= !hasMadeCluster;
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
  const started = performance.now();
  say(`${name} …`);
  const result = await work();
  const seconds = (performance.now() - started) / 1000;
  steps.push({ name, seconds });
  say(`${name}: ${seconds.toFixed(1)} s`);
  return result;
}

function say(text: string): void {
  process.stderr.write(`acceptance: ${text}\n`);
}
