import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { Digest } from "../../lib/registry/manifest.ts";
import { imageOf, sha256 } from "../support/registry.ts";
import { changesOf, isRestart, nextSecond, openOutdated, type Shop, verdictOf } from "./support/shop.ts";

const hourMs = 3600_000;
const [old, moved] = [imageOf("old"), imageOf("new")].map(({ body }) => sha256(body)) as [Digest, Digest];

/** Lets figwasp run for three days, and gives the hours in which it restarted `web`. */
async function runForThreeDays(shop: Shop, everyHours: number, argv: string[] = []): Promise<number[]> {
  const restarts: number[] = [];
  for (let hours = 0; hours < 72; hours += everyHours) {
    const run = await shop.figwasp("deployment", argv);
    const isChange = changesOf(run).length > 0;
    assert.equal(verdictOf(run).split(",")[0], isChange ? "restarted" : "not converged");
    if (isChange) restarts.push(hours);
    if (isChange) await shop.rollOut("deployment");
    if (isChange) await nextSecond();
    shop.clock.letPass(everyHours * hourMs);
  }
  return restarts;
}

describe("behind a mirror that does not catch up", { concurrency: true }, () => {
  it("a Deployment is restarted after an hour, and then after growing pauses of a day at most", async (t) => {
    const shop = await openOutdated(t);
    shop.nodes.pull = () => old;
    assert.deepEqual(await runForThreeDays(shop, 1), [0, 1, 3, 7, 15, 31, 55]);
  });

  it("it is restarted at the interval that is set", async (t) => {
    const shop = await openOutdated(t);
    shop.nodes.pull = () => old;
    const everySixHours = Array.from({ length: 12 }, (_each, at) => 6 * at);
    assert.deepEqual(await runForThreeDays(shop, 3, ["--retry-interval=6h"]), everySixHours);
  });

  it("it is restarted once, where further tries are off", async (t) => {
    const shop = await openOutdated(t);
    shop.nodes.pull = () => old;
    assert.deepEqual(await runForThreeDays(shop, 12, ["--retry-interval=off"]), [0]);
    const run = await shop.figwasp("deployment", ["--retry-interval=off"]);
    assert.match(verdictOf(run), /; no further try$/);
  });

  it("it is told when the next try is due", async (t) => {
    const shop = await openOutdated(t);
    shop.nodes.pull = () => old;
    await shop.figwasp("deployment");
    await shop.rollOut("deployment");
    const { annotations } = (await shop.read("deployment")).spec?.template.metadata ?? {};
    const at = Date.parse(annotations?.["kubectl.kubernetes.io/restartedAt"] ?? "");
    const due = new Date(at + hourMs).toISOString().replace(/\.\d+/, "");
    const run = await shop.figwasp("deployment");
    assert(verdictOf(run).startsWith(`not converged, app was restarted for ${moved} at `), verdictOf(run));
    assert(verdictOf(run).endsWith(`; next try after ${due}`), verdictOf(run));
  });

  it("it is restarted twice without a pause, where two mirrors answer by turns", async (t) => {
    const shop = await openOutdated(t);
    const contents = [old, sha256("older")];
    let turn = 0;
    shop.nodes.pull = () => contents[turn % 2];
    const restarts: number[] = [];
    const run = async () => {
      turn += 1;
      const changes = changesOf(await shop.figwasp("deployment")).length;
      restarts.push(changes);
      await shop.rollOut("deployment");
      await nextSecond();
    };
    for (const _ of [1, 2, 3, 4, 5]) await run();
    assert.deepEqual(restarts, [1, 1, 0, 0, 0]);
    shop.clock.letPass(1.9 * hourMs);
    await run();
    shop.clock.letPass(0.1 * hourMs);
    await run();
    assert.deepEqual(restarts.slice(5), [0, 1]);
  });
});

describe("where the registry deletes what no tag points to", { concurrency: true }, () => {
  // The nodes may know the same image by the index that expired, so that a further try would bring nothing.
  it("a Deployment is restarted once, and unknown then, naming what expired", async (t) => {
    const shop = await openOutdated(t);
    shop.registry.manifests.delete(old);
    shop.nodes.pull = () => old;
    assert(isRestart(await shop.figwasp("deployment")));
    await shop.rollOut("deployment");
    await nextSecond();
    shop.clock.letPass(25 * hourMs);
    const run = await shop.figwasp("deployment");
    const expired = `its pods run ${old}, which the registry no longer has: the nodes may know the same image by that name`;
    assert.equal(verdictOf(run), `unknown, app was restarted for ${moved}, and ${expired}`);
    assert.equal(run.code, 0);
  });
});

describe("without older revisions", { concurrency: true }, () => {
  /** One that is stuck. */
  async function openStuck(t: TestContext): Promise<Shop> {
    const shop = await openOutdated(t);
    await shop.kubectl("patch", "deployment/web", "--patch", JSON.stringify({ spec: { revisionHistoryLimit: 0 } }));
    await shop.rollOut("deployment");
    shop.nodes.pull = () => old;
    await shop.figwasp("deployment");
    await shop.rollOut("deployment");
    assert.match(verdictOf(await shop.figwasp("deployment")), /^not converged, /);
    return shop;
  }

  it("a change of the template a minute later makes figwasp restart it again", async (t) => {
    const shop = await openStuck(t);
    await nextSecond();
    shop.clock.letPass(61_000);
    assert.match(verdictOf(await shop.figwasp("deployment")), /^not converged, /);
    await shop.kubectl("set", "env", "deployment/web", "A=1");
    await shop.rollOut("deployment");
    assert(isRestart(await shop.figwasp("deployment")));
  });

  it("so does a rollout restart, at once", async (t) => {
    const shop = await openStuck(t);
    await nextSecond();
    await shop.kubectl("rollout", "restart", "deployment/web");
    await shop.rollOut("deployment");
    assert(isRestart(await shop.figwasp("deployment")));
  });
});
