import { Given, When } from "@cucumber/cucumber";
import { LocalRegistry } from "./support/registry.ts";
import type { FigwaspWorld } from "./support/world.ts";

Given("a repository with an image of a server that says {string}", pushUnderTheTag);

When("an image that says {string} is pushed under the same tag", pushUnderTheTag);

Given(
  "the tag {string} with an image that says {string}",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await pushUnderTheTag.call(this, reply);
  },
);

When(
  "an image that says {string} is pushed under tag {string}",
  async function (this: FigwaspWorld, reply: string, tag: string) {
    await this.registry.pushServer(`${this.repository}:${tag}`, reply);
  },
);

Given(
  "the tag {string} with a multi-platform image that says {string}",
  async function (this: FigwaspWorld, tag: string, reply: string) {
    this.tag = tag;
    await pushIndexUnderTheTag.call(this, reply);
  },
);

When("a multi-platform image that says {string} is pushed under the same tag", pushIndexUnderTheTag);

Given("a registry that can be stopped", async function (this: FigwaspWorld) {
  const { id, network } = this.environment;
  const registry = await LocalRegistry.start(`${id}-${this.namespace}`, network);
  this.atTheEnd(() => registry.stop());
  await this.environment.connectNodes(registry);
  this.registry = registry;
});

When("the registry goes down", async function (this: FigwaspWorld) {
  await this.registry.stop();
});

async function pushUnderTheTag(this: FigwaspWorld, reply: string): Promise<void> {
  await this.registry.pushServer(`${this.repository}:${this.tag}`, reply);
}

async function pushIndexUnderTheTag(this: FigwaspWorld, reply: string): Promise<void> {
  await this.registry.pushIndex(`${this.repository}:${this.tag}`, reply);
}
