import assert from "node:assert/strict";
import { Given, When } from "@cucumber/cucumber";
import { LocalRegistry } from "./support/registry.ts";
import type { FigwaspWorld } from "./support/world.ts";

Given("a repository with an image of a server that says {string}", async function (this: FigwaspWorld, reply: string) {
  await push.call(this, reply);
  await this.mirror?.pushServer(this.tagged, reply);
});

Given("an image that says {string} is pushed under the same tag", push);

Given(
  "the tag {string} with an image that says {string}",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await push.call(this, reply);
  },
);

Given(
  "an image that says {string} is pushed under tag {string}",
  async function (this: FigwaspWorld, reply: string, tag: string) {
    await this.registry.pushServer(`${this.repository}:${tag}`, reply);
  },
);

When("the tag is moved back to the image that says {string}", async function (this: FigwaspWorld, reply: string) {
  const digest = this.pushed.get(reply);
  assert(digest, `no image that says ${reply} was pushed in this scenario`);
  await this.registry.moveTag(this.tagged, digest);
  assert.equal(await this.registry.digest(this.tagged), digest);
});

// --- A second image in the pod ---

Given(
  "another repository with an image of a server that says {string}",
  async function (this: FigwaspWorld, reply: string) {
    this.otherImage = `${this.registry.host}/${this.namespace}/other:latest`;
    await this.registry.pushServer(`${this.namespace}/other:latest`, reply);
  },
);

Given(
  "an image that says {string} is pushed to the other repository",
  async function (this: FigwaspWorld, reply: string) {
    await this.registry.pushServer(`${this.namespace}/other:latest`, reply);
  },
);

// --- Indexes ---

Given(
  "the tag {string} with a multi-platform image that says {string}",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await this.registry.pushIndex(this.tagged, reply);
  },
);

Given(
  "a multi-platform image that says {string} is pushed under the same tag",
  async function (this: FigwaspWorld, reply: string) {
    await this.registry.pushIndex(this.tagged, reply);
  },
);

Given("a new index over the same image is pushed under the same tag", async function (this: FigwaspWorld) {
  await this.registry.pushIndex(this.tagged, "v1", { note: "another" });
});

Given(
  "a multi-platform image is pushed under the same tag, of which only another platform's says {string}",
  async function (this: FigwaspWorld, otherReply: string) {
    await changeOtherPlatform(this, otherReply, "new");
  },
);

Given(
  "only another platform's image is changed under the same tag, so that the nodes go on by the older index",
  async function (this: FigwaspWorld) {
    await changeOtherPlatform(this, "v2", "older");
  },
);

// The node's own image is known by two indexes then, and of these a node reports the first by alphabet.
async function changeOtherPlatform(world: FigwaspWorld, otherReply: string, reported: "new" | "older"): Promise<void> {
  const before = await world.registry.digest(world.tagged);
  const isWanted = (digest: string) => digest < before === (reported === "new");
  await world.registry.pushIndex(world.tagged, "v1", { otherReply, isWanted });
}

When(
  "three times a new index over the same image is pushed and figwasp runs twice",
  async function (this: FigwaspWorld) {
    for (const note of ["one", "two", "three"]) {
      await this.registry.pushIndex(this.tagged, "v1", { note });
      await this.run();
      await this.run();
    }
  },
);

Given(
  "the tag {string} with a multi-platform image that says {string}, known to the node by another repository",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await pushKnown(this, reply);
  },
);

When(
  "a multi-platform image that says {string} is pushed in the same way",
  async function (this: FigwaspWorld, reply: string) {
    await pushKnown(this, reply);
  },
);

// The node pulls the platform's image from the other repository first, and goes on calling it by that name: of
// all the names of an image, a node reports the first by alphabet.
async function pushKnown(world: FigwaspWorld, reply: string): Promise<void> {
  await world.registry.pushServer(`${world.namespace}/aaa:${reply}`, reply);
  await world.deploy({ name: `neighbour-${reply}`, image: `${world.registry.host}/${world.namespace}/aaa:${reply}` });
  await world.registry.pushIndex(world.tagged, reply);
}

// --- Registries of the scenario's own ---

Given("a registry that can be stopped", async function (this: FigwaspWorld) {
  this.registry = await startRegistry(this, "own");
});

When("the registry goes down", async function (this: FigwaspWorld) {
  await this.registry.stop();
});

Given(
  "a second registry with an image of a server that says {string}",
  async function (this: FigwaspWorld, reply: string) {
    const second = await startRegistry(this, "second");
    this.otherRegistry = second;
    this.otherImage = `${second.host}/other:latest`;
    await second.pushServer("other:latest", reply);
  },
);

When("the second registry goes down", async function (this: FigwaspWorld) {
  assert(this.otherRegistry, "the scenario has no second registry");
  await this.otherRegistry.stop();
});

Given("a registry behind a mirror from which the nodes pull", async function (this: FigwaspWorld) {
  this.registry = await startRegistry(this, "origin");
  this.mirror = await startRegistry(this, "mirror");
  await this.environment.connectNodes(this.mirroredHosts);
});

Given("an image that says {string} is pushed, and the mirror does not have it yet", push);

When("the mirror has caught up", async function (this: FigwaspWorld) {
  const reply = [...this.pushed.keys()].at(-1);
  assert(this.mirror && reply, "the scenario has no mirror, or nothing was pushed");
  await this.mirror.pushServer(this.tagged, reply);
});

export async function startRegistry(
  world: FigwaspWorld,
  name: string,
  environment: Record<string, string> = {},
): Promise<LocalRegistry> {
  const { id, network } = world.environment;
  const registry = await LocalRegistry.start(`${id}-${world.namespace}-${name}`, network, { environment });
  world.atTheEnd(() => registry.stop());
  await world.environment.connectNodes(registry.hosts);
  return registry;
}

async function push(this: FigwaspWorld, reply: string): Promise<void> {
  await this.registry.pushServer(this.tagged, reply);
  this.pushed.set(reply, await this.registry.digest(this.tagged));
}
