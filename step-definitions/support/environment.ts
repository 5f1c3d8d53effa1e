import { randomBytes } from "node:crypto";
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { isMainThread } from "node:worker_threads";
import { ApiServer } from "./api-server.ts";
import { type HostsFolder, LocalRegistry, type Pushed } from "./registry.ts";
import { $ } from "./shell.ts";

/** The repository's root, from which the README's commands are run. */
export const root = new URL("../..", import.meta.url).pathname;

/** Every temporary file of this run lies in this folder. The main thread names it before there is any worker, since a
 *  worker inherits the environment variables of that moment. */
export const runFolder = nameRunFolder();

function nameRunFolder(): string {
  const variable = "FIGWASP_ACCEPTANCE_RUN";
  if (isMainThread) process.env[variable] = join(tmpdir(), `figwasp-${randomBytes(3).toString("hex")}`);
  // testcontainers would start a container for each worker that deletes containers of a killed run. The next run does that.
  if (isMainThread) process.env["TESTCONTAINERS_RYUK_DISABLED"] = "true";
  return process.env[variable] ?? "";
}

/** Six characters such as `a1b2c3`. What carries them in its name or label belongs to this run alone. */
export const runId = idOf(runFolder);

/** The ID of the run that a folder belongs to. */
export function idOf(folder: string): string {
  return basename(folder).replace("figwasp-", "");
}

/** A label with the value `runId` is on each namespace and container that a scenario makes. */
export const runLabel = "figwasp.acceptance.run";

/** `KEEP=1` keeps the cluster of the run for later runs. With `KEEP=0` a run neither keeps a cluster nor uses a kept one. */
const keep = process.env["KEEP"] ?? "";
export const mayUseKept = keep !== "0";
export const isToBeKept = mayUseKept && keep !== "";

/** What all scenarios of a run share, as the main thread writes it down for its workers. */
export interface Handle {
  /** The names of the kind cluster, of its network, and of the volume in which the registry keeps what is pushed. */
  cluster: string;
  nodes: string[];
  kubeconfig: string;
  /** The bundle of figwasp, a file that Node runs. */
  bundle: string;
  registryPort: number;
  /** figwasp's image, and that of the echo server, as `repository:tag` of the registry. */
  figwaspImage: string;
  echoImage: string;
}

/** What all scenarios of a run share: one cluster, one registry, one image of figwasp. */
export interface Environment {
  network: string;
  registry: LocalRegistry;
  /** The image from which registries make the images of a scenario. */
  echo: Pushed;
  /** The Docker volume in which that registry keeps what is pushed. Other registries can serve the same images from it. */
  volume: string;
  /** figwasp's image, as `repository:tag` of the registry. */
  figwaspImage: string;
  kubeconfig: string;
  /** The bundle of figwasp, a file that Node runs. */
  bundle: string;
  apiServer: ApiServer;
  /** Tells the nodes how to reach registries. */
  connectNodes: (hosts: HostsFolder) => Promise<void>;
  /** What the API server wrote down of a ServiceAccount's requests, in their order. */
  readAudit: (user: string) => Promise<AuditEvent[]>;
}

export interface AuditEvent {
  verb: string;
  user: { username: string };
  requestURI: string;
  /** It is absent if a path such as /version was asked for. */
  objectRef?: { resource: string; subresource?: string; namespace?: string; name?: string };
  requestObject?: unknown;
  responseStatus: { code: number };
}

/** Names what was asked for, such as `patch deployments`, `dry-run patch deployments`, `get pods/log` or `get /version`. */
export function askedFor(event: AuditEvent): string {
  const { verb, objectRef, requestURI } = event;
  const { resource, subresource } = objectRef ?? { resource: new URL(requestURI, "https://api-server").pathname };
  return `${isDryRun(event) ? "dry-run " : ""}${verb} ${[resource, subresource ?? []].flat().join("/")}`;
}

/** Whether the API server was asked what it would write, and wrote nothing. */
export function isDryRun({ requestURI }: AuditEvent): boolean {
  return new URL(requestURI, "https://api-server").searchParams.get("dryRun") === "All";
}

/** The file in which the main thread hands the environment to its workers. */
export const handleFile = join(runFolder, "environment.json");

export async function openEnvironment(): Promise<Environment> {
  const handle = JSON.parse(await readFile(handleFile, "utf8")) as Handle;
  const { cluster, nodes, kubeconfig, bundle, registryPort, figwaspImage, echoImage } = handle;
  const registryName = nameOfRegistry(cluster);
  const echo = { registry: new LocalRegistry(registryName, registryPort), image: echoImage };
  return {
    network: cluster,
    registry: new LocalRegistry(registryName, registryPort, echo),
    echo,
    volume: cluster,
    figwaspImage,
    kubeconfig,
    bundle,
    apiServer: await ApiServer.connect(kubeconfig),
    connectNodes: (hosts) => connect(nodes, hosts),
    readAudit: (user) => auditOf(nodes, user),
  };
}

export function nameOfRegistry(cluster: string): string {
  return `${cluster}-registry`;
}

/** Makes a folder that is deleted at the end of the run, if nobody has deleted it before. */
export async function temporaryFolder(name: string): Promise<string> {
  return mkdtemp(join(runFolder, `${name}-`));
}

/** Writes files to the folder in which the containerd of each node looks at every pull. */
export async function connect(nodes: string[], hosts: HostsFolder): Promise<void> {
  const write = 'mkdir -p "$(dirname "$1")" && cat > "$1"';
  for (const node of nodes) {
    for (const [path, input] of Object.entries(hosts)) {
      const file = `/etc/containerd/certs.d/${path}`;
      await $({ input })`docker exec --interactive ${node} sh -c ${write} write ${file}`;
    }
  }
}

// The API server logs a request before it answers it, so that the log has all that figwasp was answered.
async function auditOf(nodes: string[], user: string): Promise<AuditEvent[]> {
  const [node = ""] = nodes;
  const { stdout } =
    await $`docker exec ${node} sh -c ${'grep -F "$1" /var/log/kubernetes/audit.log || [ $? = 1 ]'} grep ${user}`;
  const events = stdout.split("\n").filter((line) => line !== "");
  return events.map((line) => JSON.parse(line) as AuditEvent).filter((event) => event.user.username === user);
}
