import assert from "node:assert/strict";
import { Given, When } from "@cucumber/cucumber";
import type { FigwaspWorld } from "./support/world.ts";

Given("a repository with an image of a server that says {string}", async function (this: FigwaspWorld, reply: string) {
  await push.call(this, reply);
  if (this.mirror) await this.pushServer(this.tagged, reply, this.mirror);
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
    await this.pushServer(`${this.repository}:${tag}`, reply);
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
    await this.pushServer(`${this.namespace}/other:latest`, reply);
  },
);

Given(
  "an image that says {string} is pushed to the other repository",
  async function (this: FigwaspWorld, reply: string) {
    await this.pushServer(`${this.namespace}/other:latest`, reply);
  },
);

// --- Indexes ---

Given(
  "the tag {string} with a multi-platform image that says {string}",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await this.pushIndex(reply);
  },
);

Given(
  "a multi-platform image that says {string} is pushed under the same tag",
  async function (this: FigwaspWorld, reply: string) {
    await this.pushIndex(reply);
  },
);

Given("a new index over the same image is pushed under the same tag", async function (this: FigwaspWorld) {
  await this.pushIndex("v1", { note: "another" });
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

// After this the node knows its own image by two indexes. It reports the one whose digest is first in alphabetical order.
async function changeOtherPlatform(world: FigwaspWorld, otherReply: string, reported: "new" | "older"): Promise<void> {
  const before = await world.registry.digest(world.tagged);
  const isWanted = (digest: string) => digest < before === (reported === "new");
  await world.pushIndex("v1", { otherReply, isWanted });
}

When(
  "three times a new index over the same image is pushed and figwasp runs twice",
  async function (this: FigwaspWorld) {
    for (const note of ["one", "two", "three"]) {
      await this.pushIndex("v1", { note });
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

// The node pulls the image from the repository "aaa" first, and goes on to report that name: of all the names of an image it
// reports the first in alphabetical order.
async function pushKnown(world: FigwaspWorld, reply: string): Promise<void> {
  await world.pushServer(`${world.namespace}/aaa:${reply}`, reply);
  await world.deploy({ name: `neighbour-${reply}`, image: `${world.registry.host}/${world.namespace}/aaa:${reply}` });
  await world.pushIndex(reply);
}

// --- Registries of the scenario's own ---

Given("a registry that can be stopped", async function (this: FigwaspWorld) {
  this.registry = await this.startRegistry("own");
});

When("the registry goes down", async function (this: FigwaspWorld) {
  await this.registry.stop();
});

Given(
  "a second registry with an image of a server that says {string}",
  async function (this: FigwaspWorld, reply: string) {
    const second = await this.startRegistry("second");
    this.otherRegistry = second;
    this.otherImage = `${second.host}/${this.namespace}/other:latest`;
    await this.pushServer(`${this.namespace}/other:latest`, reply, second);
  },
);

When("the second registry goes down", async function (this: FigwaspWorld) {
  assert(this.otherRegistry, "the scenario has no second registry");
  await this.otherRegistry.stop();
});

Given("a registry behind a mirror from which the nodes pull", async function (this: FigwaspWorld) {
  this.registry = await this.startRegistry("origin");
  this.mirror = await this.startRegistry("mirror");
  await this.connectNodes(this.mirroredHosts);
});

Given("an image that says {string} is pushed, and the mirror does not have it yet", push);

When("the mirror has caught up", async function (this: FigwaspWorld) {
  const reply = [...this.pushed.keys()].at(-1);
  assert(this.mirror && reply, "the scenario has no mirror, or nothing was pushed");
  await this.pushServer(this.tagged, reply, this.mirror);
});

async function push(this: FigwaspWorld, reply: string): Promise<void> {
  await this.pushServer(this.tagged, reply);
  this.pushed.set(reply, await this.registry.digest(this.tagged));
}
