import assert from "node:assert/strict";
import { Given, Then, When } from "@cucumber/cucumber";
import type { V1Volume } from "@kubernetes/client-node";
import { assertRun } from "./figwasp.ts";
import {
  authorityBeside,
  authorityInHostsToml,
  behindMirror,
  type PrivateRegistry,
  startWithPasswords,
  startWithTokens,
  unverified,
} from "./support/private-registry.ts";
import { startBefore } from "./support/faulty-registry.ts";
import type { HostsFolder } from "./support/registry.ts";
import { ofFigwasp } from "./support/server.ts";
import type { FigwaspWorld } from "./support/world.ts";

const secretName = "my-app-pull";

// --- Where the images are ---

Given("the repository is in a private registry", async function (this: FigwaspWorld) {
  await usePrivate(this, await startWithPasswords(this), authorityBeside);
});

Given("the repository is in a private registry, whose authority hosts.toml names", async function (this: FigwaspWorld) {
  await usePrivate(this, await startWithPasswords(this), authorityInHostsToml);
});

Given(
  "the repository is in a private registry, whose certificate hosts.toml leaves unverified",
  async function (this: FigwaspWorld) {
    await usePrivate(this, await startWithPasswords(this), unverified);
  },
);

Given("the repository is in a private registry with a token server beside it", async function (this: FigwaspWorld) {
  await usePrivate(this, await startWithTokens(this, `auth.${this.namespace}.test`), authorityBeside);
});

Given(
  "the repository is in a private registry with a token server under an unrelated name",
  async function (this: FigwaspWorld) {
    const registry = await startWithTokens(this, `tokens.${this.namespace}-other.example`);
    await usePrivate(this, registry, authorityBeside);
    this.strangers.add(tokenServerOf(this).server);
  },
);

// The nodes and figwasp are told the same.
async function usePrivate(
  world: FigwaspWorld,
  registry: PrivateRegistry,
  hostsOf: (registry: PrivateRegistry) => HostsFolder,
): Promise<void> {
  world.privateRegistry = registry;
  world.imageHost = registry.host;
  world.hosts = hostsOf(registry);
  await world.connectNodes(world.hosts);
}

Given(
  "the repository is in a private registry, behind a mirror that asks for a credential too",
  async function (this: FigwaspWorld) {
    const mirror = await startBefore(this, "asks for a credential");
    this.strangers.add(mirror.server);
    await usePrivate(this, await startWithPasswords(this), (registry) => behindMirror(registry, mirror.url));
  },
);

Given("the nodes pull from the repository through a mirror", async function (this: FigwaspWorld) {
  const environment = { REGISTRY_PROXY_REMOTEURL: this.registry.clusterUrl };
  this.mirror = await this.startRegistry("mirror", environment);
  this.strangers.add(this.mirror);
  this.imageHost = `mirrored.${this.namespace}.test`;
  this.hosts = this.mirroredHosts;
  await this.connectNodes(this.hosts);
});

// --- Who may pull them ---

Given("a Deployment of that image, with its pull secret", async function (this: FigwaspWorld) {
  const { host, credential } = privateRegistryOf(this);
  await this.putPullSecret(secretName, host, credential);
  await this.deploy({ pod: (spec) => void (spec.imagePullSecrets = [{ name: secretName }]) });
});

Given("a Deployment of that image, whose ServiceAccount has the pull secret", async function (this: FigwaspWorld) {
  const { host, credential } = privateRegistryOf(this);
  await this.putPullSecret(secretName, host, credential);
  const metadata = { name: "my-app", namespace: this.namespace };
  await this.apply({
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata,
    imagePullSecrets: [{ name: secretName }],
  });
  await this.deploy({ pod: (spec) => void (spec.serviceAccountName = "my-app") });
});

// The Secret is changed once the pods run, as when the password was changed at the registry. Its key is a pattern, which is no
// part of any image's name.
Given("a Deployment of that image, whose pull secret has gone out of date", async function (this: FigwaspWorld) {
  await deployWithOutdated(this, [secretName]);
});

Given(
  "a Deployment of that image, with five pull secrets that have gone out of date",
  async function (this: FigwaspWorld) {
    await deployWithOutdated(
      this,
      [1, 2, 3, 4, 5].map((number) => `${secretName}-${number}`),
    );
  },
);

async function deployWithOutdated(world: FigwaspWorld, names: string[]): Promise<void> {
  const { credential } = privateRegistryOf(world);
  for (const name of names) await world.putPullSecret(name, globKey(world), credential);
  await world.deploy({ pod: (spec) => void (spec.imagePullSecrets = names.map((name) => ({ name }))) });
  for (const name of names) await world.putPullSecret(name, globKey(world), world.plantCredential());
}

function globKey(world: FigwaspWorld): string {
  return privateRegistryOf(world).host.replace(/^registry/, "*");
}

// --- figwasp in its own ways to be given them ---

When(
  "figwasp runs as a Job that has a docker config and no right to read Secrets",
  async function (this: FigwaspWorld) {
    const { host, credential } = privateRegistryOf(this);
    await this.putPullSecret("figwasp-docker-config", host, credential);
    const secrets = [
      { op: "test", path: "/rules/3/resources", value: ["secrets"] },
      { op: "remove", path: "/rules/3" },
    ];
    const volume = { name: "docker-config", secret: { secretName: "figwasp-docker-config" } };
    await this.runJob({
      env: { DOCKER_CONFIG: "/docker-config" },
      patches: [{ target: { kind: "Role" }, patch: JSON.stringify(secrets) }, mounted(volume, "/docker-config")],
    });
  },
);

When("figwasp runs as a Job that has the authority mounted as with figwasp v1", async function (this: FigwaspWorld) {
  const metadata = { name: "my-ca", namespace: this.namespace };
  const data = { "my-ca.crt": privateRegistryOf(this).authority };
  await this.apply({ apiVersion: "v1", kind: "ConfigMap", metadata, data });
  const patch = mounted({ name: "my-ca", configMap: { name: "my-ca" } }, "/etc/ssl/certs/my-ca.crt", "my-ca.crt");
  await this.runJob({ hosts: this.registry.hosts, patches: [patch] });
});

When("figwasp runs as a Job that does not know the authority", async function (this: FigwaspWorld) {
  await this.runJob({ hosts: this.registry.hosts });
});

When("figwasp runs as a Job that is told of the token server", async function (this: FigwaspWorld) {
  const { host, server } = tokenServerOf(this);
  this.strangers.delete(server);
  await this.runJob({ env: { FIGWASP_TOKEN_HOSTS: `${privateRegistryOf(this).host}=${host}` } });
});

function mounted(volume: V1Volume, mountPath: string, subPath?: string): object {
  const mount = { name: volume.name, mountPath, readOnly: true, ...(subPath !== undefined && { subPath }) };
  const patch = [
    { op: "add", path: "/spec/template/spec/volumes/-", value: volume },
    { op: "add", path: "/spec/template/spec/containers/0/volumeMounts/-", value: mount },
  ];
  return { target: { kind: "Job" }, patch: JSON.stringify(patch) };
}

// --- What it said, and what the servers saw of it ---

Then("figwasp fails and names the pull secret and its key", function (this: FigwaspWorld) {
  assertRun(this.lastRun, 1, secretName);
  assertRun(this.lastRun, 1, globKey(this));
});

Then("figwasp fails and says how to let it ask the token server", function (this: FigwaspWorld) {
  const hosts = [privateRegistryOf(this).host, tokenServerOf(this).host];
  for (const words of ["FIGWASP_TOKEN_HOSTS", ...hosts]) assertRun(this.lastRun, 1, words);
});

Then("the registry has refused figwasp's login {int} time(s)", async function (this: FigwaspWorld, times: number) {
  const lines = ofFigwasp(await privateRegistryOf(this).server.log());
  // The registry logs a request without any credential as "invalid authorization credential", which does not count here.
  const refused = lines.filter((line) => /error authorizing context: .*authentication failure/.test(line));
  assert.equal(refused.length, times, lines.join("\n"));
});

Then("the token server was given a credential by the nodes alone", async function (this: FigwaspWorld) {
  assert.deepEqual(await bearersAt(tokenServerOf(this).server), { asked: true, given: ["containerd"] });
});

Then("the mirror was given a credential by the nodes alone", async function (this: FigwaspWorld) {
  const [mirror] = this.strangers;
  assert(mirror, "the scenario has no mirror");
  assert.deepEqual(await bearersAt(mirror), { asked: true, given: ["containerd"] });
});

// Tells whether figwasp has asked a server at all, and which clients have sent it a credential.
async function bearersAt(server: { log: () => Promise<string[]> }): Promise<{ asked: boolean; given: string[] }> {
  const lines = (await server.log()).filter((line) => line.startsWith("{"));
  const requests = lines.map((line) => JSON.parse(line) as { headers: Record<string, string>; body?: string });
  const agentOf = ({ headers }: (typeof requests)[number]) => headers["user-agent"]?.split("/")[0] ?? "";
  const given = requests.filter(({ headers, body = "" }) => headers["authorization"] !== undefined || body !== "");
  const asked = requests.some((request) => agentOf(request) === "figwasp");
  return { asked, given: [...new Set(given.map(agentOf))] };
}

Then("figwasp has asked the mirror, and not the registry behind it", async function (this: FigwaspWorld) {
  assert(this.mirror, "the scenario has no mirror");
  const asked = async (registry: { log: () => Promise<string[]> }) =>
    ofFigwasp(await registry.log()).filter((line) => line.includes(`/v2/${this.repository}/`)).length;
  assert.notEqual(await asked(this.mirror), 0);
  assert.equal(await asked(this.registry), 0);
});

function privateRegistryOf(world: FigwaspWorld): PrivateRegistry {
  assert(world.privateRegistry, "the scenario has no private registry");
  return world.privateRegistry;
}

function tokenServerOf(world: FigwaspWorld) {
  const { tokenServer } = privateRegistryOf(world);
  assert(tokenServer, "the scenario has no token server");
  return tokenServer;
}
