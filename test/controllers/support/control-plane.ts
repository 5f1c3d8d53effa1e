/**
 * A Kubernetes control plane without nodes: etcd, kube-apiserver and kube-controller-manager as processes of this
 * machine. They listen on loopback alone, and all that they write lies in one temporary folder.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createPrivateKey, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { access, constants, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve as resolvePath } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent, request } from "undici";
import { newAuthority } from "../../support/tls.ts";

const programNames = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];

/** The folder that KUBEBUILDER_ASSETS names, as for envtest (book.kubebuilder.io, "Configuring envtest for integration
 *  tests"). Throws where it is not set or lacks a program. */
export async function findPrograms(env: NodeJS.ProcessEnv): Promise<string> {
  const needed = `a folder with ${programNames.slice(0, -1).join(", ")} and kubectl is needed`;
  const refuse = (found: string) =>
    new Error(`Cannot start a control plane: ${found}, ${needed} (test/controllers/README.md tells how to get it)`);
  if (!env["KUBEBUILDER_ASSETS"]) throw refuse("KUBEBUILDER_ASSETS is not set");
  // The programs are started in a folder of their own.
  const folder = resolvePath(env["KUBEBUILDER_ASSETS"]);
  const missing: string[] = [];
  for (const name of programNames) {
    await access(join(folder, name), constants.X_OK).catch(() => missing.push(name));
  }
  if (missing.length > 0)
    throw refuse(`KUBEBUILDER_ASSETS is ${folder}, where there is no ${missing.join(" and no ")}`);
  return folder;
}

// The controllers that the tests are about, and no other: each more takes time to start.
const controllers = ["deployment", "replicaset", "statefulset", "daemonset", "garbage-collector", "resourcequota"];

// A busy machine needs several times the usual four seconds.
const startDeadlineMs = 90_000;

/** What the tests know of a control plane; it stands in `access.json` in its folder. */
export interface Access {
  server: string;
  /** The certificate of the API server's CA, in PEM. */
  ca: string;
  /** Of an administrator. */
  token: string;
  kubectl: string;
}

export interface ControlPlane {
  /** Holds `access.json`, the administrator's `kubeconfig`, and a log of each program. */
  folder: string;
  /** Resolves, with the reason, when a program ends by itself. */
  broken: Promise<Error>;
  /** Ends the programs and deletes the folder. */
  end: () => Promise<void>;
}

/** Resolves when the API server and the controllers are ready. Throws where a program does not start, with the end of its
 *  log, and where the signal is aborted; no process and no file is left then. */
export async function startControlPlane(programs: string, signal: AbortSignal): Promise<ControlPlane> {
  const folder = await mkdtemp(join(tmpdir(), "figwasp-control-plane-"));
  const started: Program[] = [];
  const kill = () => started.map(({ child }) => child.kill("SIGKILL"));
  // The last resort, for an error that nobody catches.
  const abandon = () => {
    kill();
    rmSync(folder, { recursive: true, force: true });
  };
  process.once("exit", abandon);
  const end = async () => {
    // There is nothing to save, so nobody is asked to end.
    kill();
    await Promise.all(started.map(({ ended }) => ended));
    await rm(folder, { recursive: true, maxRetries: 5 });
    process.off("exit", abandon);
  };
  try {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(startDeadlineMs)]);
    await startPrograms({ programs, folder, started, signal: deadline });
    return { folder, broken: Promise.race(started.map(({ ended }) => ended)), end };
  } catch (error) {
    await end();
    throw error;
  }
}

interface Start {
  /** Where the executables are. */
  programs: string;
  folder: string;
  /** Takes each program as soon as it has been started. */
  started: Program[];
  signal: AbortSignal;
}

async function startPrograms(start: Start): Promise<void> {
  const { programs, folder } = start;
  const [etcdPort = 0, apiPort = 0, controllersPort = 0] = await findFreePorts(3);
  const token = randomBytes(16).toString("hex");
  const ca = await writeCredentials(folder, token);
  const server = `https://127.0.0.1:${apiPort}`;
  const known: Access = { server, ca, token, kubectl: join(programs, "kubectl") };
  await writeFile(join(folder, "access.json"), JSON.stringify(known), { mode: 0o600 });
  await writeFile(join(folder, "kubeconfig"), kubeconfigOf(known), { mode: 0o600 });
  const ask = { token, dispatcher: new Agent({ connect: { ca } }) };
  try {
    const etcd = await startProgram(start, "etcd", etcdFlags(folder, etcdPort));
    await waitUntilReady(start, etcd, { url: `http://127.0.0.1:${etcdPort}/readyz`, ...ask });
    const apiServer = await startProgram(start, "kube-apiserver", apiServerFlags(folder, apiPort, etcdPort));
    await waitUntilReady(start, apiServer, { url: `${server}/readyz`, ...ask });
    const manager = await startProgram(start, "kube-controller-manager", controllersFlags(folder, controllersPort));
    // It has no /readyz.
    await waitUntilReady(start, manager, { url: `https://127.0.0.1:${controllersPort}/healthz`, ...ask });
  } finally {
    await ask.dispatcher.destroy();
  }
}

/** A kubeconfig that names a user by a token. */
export function kubeconfigOf({ server, ca, token, namespace = "default" }: Access & { namespace?: string }): string {
  return JSON.stringify({
    "current-context": "it",
    clusters: [{ name: "it", cluster: { server, "certificate-authority-data": Buffer.from(ca).toString("base64") } }],
    users: [{ name: "it", user: { token } }],
    contexts: [{ name: "it", context: { cluster: "it", user: "it", namespace } }],
  });
}

// One key for the servers and for the tokens of ServiceAccounts: nobody else sees it. Gives the CA's certificate.
async function writeCredentials(folder: string, token: string): Promise<string> {
  const authority = await newAuthority("a control plane for tests");
  const { cert, key } = await authority.issue("localhost");
  // The group's rights are not looked up (kubernetes.io, "Using RBAC Authorization", superusers).
  const users = `${token},administrator,administrator,system:masters\n`;
  // The form that kube-apiserver takes for the keys of tokens.
  const sec1 = createPrivateKey(key).export({ type: "sec1", format: "pem" }).toString();
  const files = { "server.crt": cert, "server.key": sec1, "tokens.csv": users };
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  return authority.cert;
}

function etcdFlags(folder: string, port: number): string[] {
  const url = `http://127.0.0.1:${port}`;
  return [
    `--data-dir=${folder}/etcd`,
    "--unsafe-no-fsync", // nothing has to outlive this machine
    `--listen-client-urls=${url}`,
    `--advertise-client-urls=${url}`,
    "--listen-peer-urls=http://127.0.0.1:0",
  ];
}

function apiServerFlags(folder: string, port: number, etcdPort: number): string[] {
  return [
    `--etcd-servers=http://127.0.0.1:${etcdPort}`,
    "--bind-address=127.0.0.1",
    `--secure-port=${port}`,
    ...servingFlags(folder),
    "--advertise-address=127.0.0.1",
    "--endpoint-reconciler-type=none", // which would refuse an address on loopback
    "--service-cluster-ip-range=10.0.0.0/24",
    "--authorization-mode=RBAC",
    `--token-auth-file=${folder}/tokens.csv`,
    "--service-account-issuer=https://kubernetes.default.svc",
    `--service-account-key-file=${folder}/server.key`,
    `--service-account-signing-key-file=${folder}/server.key`,
    // It would wait for the token and the ServiceAccount that other controllers give to each pod.
    "--disable-admission-plugins=ServiceAccount",
  ];
}

function controllersFlags(folder: string, port: number): string[] {
  return [
    `--kubeconfig=${folder}/kubeconfig`,
    `--controllers=${controllers.map((name) => `${name}-controller`).join()}`,
    "--leader-elect=false",
    "--bind-address=127.0.0.1",
    `--secure-port=${port}`,
    ...servingFlags(folder),
    // The defaults, 20 and 30, are for a cluster that does other things too.
    "--kube-api-qps=200",
    "--kube-api-burst=400",
  ];
}

function servingFlags(folder: string): string[] {
  return [`--tls-cert-file=${folder}/server.crt`, `--tls-private-key-file=${folder}/server.key`];
}

// All are taken before any is given back, so that no two are the same.
async function findFreePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, () => {
      const server = createServer();
      return new Promise<typeof server>((resolve, reject) => {
        server.once("error", reject).listen(0, "127.0.0.1", () => resolve(server));
      });
    }),
  );
  const ports = servers.map((server) => (server.address() as AddressInfo).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

interface Program {
  name: string;
  /** The file. */
  log: string;
  child: ChildProcess;
  /** Resolves, with how, when it has ended or could not be started. */
  ended: Promise<Error>;
}

async function startProgram({ programs, folder, started }: Start, name: string, flags: string[]): Promise<Program> {
  const log = join(folder, `${name}.log`);
  const output = await open(log, "w");
  // In a group of its own, which Ctrl-C does not reach: the programs are ended when the tests have.
  const child = spawn(join(programs, name), flags, {
    cwd: folder,
    detached: true,
    stdio: ["ignore", output.fd, output.fd],
  });
  const ended = new Promise<string>((resolve) => {
    child.once("error", (error) => resolve(`could not be started: ${error.message}`));
    child.once("exit", (code, signal) => resolve(`ended with ${signal ?? `exit code ${code}`}`));
  }).then(async (how) => new Error(`${name} ${how}; the end of its log:\n${await readEnd(log)}`));
  const program = { name, log, child, ended };
  started.push(program);
  await output.close();
  return program;
}

const endLines = 20;

async function readEnd(log: string): Promise<string> {
  const text = await readFile(log, "utf8").catch((error: Error) => `(${error.message})`);
  return text.trimEnd().split("\n").slice(-endLines).join("\n");
}

async function waitUntilReady(
  { signal }: Start,
  { name, log, ended }: Program,
  { url, token, dispatcher }: { url: string; token: string; dispatcher: Agent },
): Promise<void> {
  const headers = { authorization: `Bearer ${token}` };
  let latest = "no answer";
  const ask = async (): Promise<boolean> => {
    const { statusCode, body } = await request(url, { headers, dispatcher, signal });
    latest = `${statusCode}: ${(await body.text()).trim()}`;
    return statusCode === 200;
  };
  // Not before it listens.
  const isReady = () => ask().catch((error: Error) => void (latest = error.message));
  for (;;) {
    const answer = await Promise.race([isReady(), ended]);
    if (answer === true) return;
    if (answer instanceof Error) throw new Error(`Cannot start a control plane: ${answer.message}`);
    if (signal.aborted) {
      const why = `${name} was not ready, ${(signal.reason as Error).message}`;
      throw new Error(
        `Cannot start a control plane: ${why}; ${url} gave ${latest}; the end of its log:\n${await readEnd(log)}`,
      );
    }
    await sleep(50);
  }
}
