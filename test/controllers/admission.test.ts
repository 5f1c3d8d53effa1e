import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { V1DeploymentSpec, V1PodTemplateSpec, V1ReplicaSet } from "@kubernetes/client-node";
import { sha256 } from "../support/registry.ts";
import { changesOf, openOutdated, type Shop, verdictOf } from "./support/shop.ts";
import { admit } from "./support/webhook.ts";

/** What a webhook does to the pod template of a Deployment that is changed. */
type Change = (template: V1PodTemplateSpec) => void;

const without =
  (key: string): Change =>
  ({ metadata }) =>
    void delete metadata?.annotations?.[key];

const pinned: Change = ({ spec }) => {
  for (const container of spec?.containers ?? []) {
    if (!container.image?.includes("@")) container.image += `@${sha256("what the webhook resolved")}`;
  }
};

const lost = (key: string) =>
  "failed, Cannot restart deployment shop/web: " +
  `the pod template would have no annotation ${key}, something takes it out`;

const cases: { what: string; change: Change; code: number; verdict: string }[] = [
  {
    what: "takes the note out of",
    change: without("figwasp/restarted-for"),
    code: 1,
    verdict: lost("figwasp/restarted-for"),
  },
  {
    what: "takes the time of a restart out of",
    change: without("kubectl.kubernetes.io/restartedAt"),
    code: 1,
    verdict: lost("kubectl.kubernetes.io/restartedAt"),
  },
  {
    what: "puts a digest into",
    change: pinned,
    code: 0,
    verdict: "skipped, pinned by admission: something writes a digest into the pod template when it is changed",
  },
];

async function assertNoRollout(shop: Shop, generation: number | undefined): Promise<void> {
  const { metadata } = await shop.read("deployment");
  assert.equal(metadata?.generation, generation);
  assert.equal((await shop.list<V1ReplicaSet>("replicasets", "apis/apps/v1")).length, 1);
}

describe("a webhook that changes pod templates", { concurrency: true }, () => {
  for (const { what, change, code, verdict } of cases) {
    for (const [right, role] of [
      ["patch", "deploy/base/rbac.yaml"],
      ["update", "fixtures/figwasp-v1.yaml"],
    ] as const) {
      it(`and ${what} them keeps figwasp with the right to ${right} from any rollout`, async (t) => {
        const shop = await openOutdated(t, { role });
        const { generation } = (await shop.read("deployment")).metadata ?? {};
        await admit<V1DeploymentSpec>(t, shop, "deployments", ({ template }) => change(template));
        for (const _ of [1, 2]) {
          const run = await shop.figwasp("deployment");
          assert.deepEqual([run.code, verdictOf(run)], [code, verdict]);
          assert.deepEqual(changesOf(run), []);
          const last =
            right === "patch" ? "PATCH?dryRun=All deployments/web 200" : "PUT?dryRun=All deployments/web 200";
          assert(run.asked.includes(last), run.asked.join("\n"));
        }
        await assertNoRollout(shop, generation);
      });
    }
  }

  it("in another way lets figwasp restart them", async (t) => {
    const shop = await openOutdated(t);
    await admit<V1DeploymentSpec>(t, shop, "deployments", ({ template: { metadata } }) => {
      if (metadata) metadata.labels = { ...metadata.labels, checked: "yes" };
    });
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [0, "restarted, outdated: app"]);
    assert.deepEqual(changesOf(run), ["PATCH deployments/web 200"]);
  });

  it("and puts a container with a digest before theirs lets figwasp restart them", async (t) => {
    const shop = await openOutdated(t);
    const proxy = { name: "proxy", image: `${shop.registry.host}/app@${sha256("proxy")}` };
    await admit<V1DeploymentSpec>(t, shop, "deployments", ({ template }) => {
      const containers = template.spec?.containers ?? [];
      if (!containers.some(({ name }) => name === proxy.name)) containers.unshift(proxy);
    });
    const run = await shop.figwasp("deployment");
    assert.deepEqual([run.code, verdictOf(run)], [0, "restarted, outdated: app"]);
  });
});

describe("--dry-run", () => {
  it("sends no PATCH, not even one that changes nothing", async (t) => {
    const shop = await openOutdated(t);
    const run = await shop.figwasp("deployment", ["--dry-run"]);
    assert.equal(verdictOf(run), "would be restarted, outdated: app");
    assert(!run.asked.some((line) => !line.startsWith("GET ")), run.asked.join("\n"));
  });
});
