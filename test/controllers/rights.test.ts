import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { folderOf } from "../support/registry.ts";
import { call } from "./support/api.ts";
import { eventually, openOutdated, type Shop } from "./support/shop.ts";

/** Whether the API server would let figwasp do so. */
async function mayFigwasp({ namespace }: Shop, verb: string, name: string): Promise<boolean> {
  const user = `system:serviceaccount:${namespace}:figwasp`;
  const resourceAttributes = { namespace, verb, group: "apps", resource: "deployments", name };
  const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
  const body = { spec: { user, resourceAttributes } };
  return (await call<{ status: { allowed: boolean } }>("POST", path, { body })).status.allowed;
}

const restarted = "deployment shop/web: restarted, outdated: app";

describe("rights", { concurrency: true }, () => {
  it("of figwasp v1's Role, update in place of patch, are enough", async (t) => {
    const shop = await openOutdated(t, { role: "fixtures/figwasp-v1.yaml" });
    const { code, lines, asked } = await shop.figwasp("deployment");
    assert.deepEqual([code, lines.at(-1)], [0, restarted]);
    const ofWorkload = asked.filter((line) => line.includes("deployments/web"));
    assert.deepEqual(ofWorkload, [
      "GET deployments/web 200",
      "PATCH?dryRun=All deployments/web 403",
      "GET deployments/web 200",
      "PUT?dryRun=All deployments/web 200",
      "PATCH deployments/web 403",
      "GET deployments/web 200",
      "PUT deployments/web 200",
      "GET deployments/web 200",
    ]);
    await shop.rollOut("deployment");
    assert.equal((await shop.figwasp("deployment")).lines.at(-1), "deployment shop/web: current, nothing to do");
  });

  it("that `figwasp rbac` prints are enough, and are for that workload alone", async (t) => {
    const shop = await openOutdated(t);
    const { lines } = await shop.figwasp("deployment", ["rbac"]);
    const printed = lines.join("\n").replaceAll("namespace: shop", `namespace: ${shop.namespace}`);
    await shop.kubectl("apply", "--filename", `${await folderOf(t, { "role.yaml": printed })}/role.yaml`);
    await eventually(async () => assert(!(await mayFigwasp(shop, "patch", "other"))));
    const { code, lines: said } = await shop.figwasp("deployment");
    assert.deepEqual([code, said.at(-1)], [0, restarted]);
  });

  it("that are missing are told by the doctor, and by a run that needs them", async (t) => {
    const shop = await openOutdated(t);
    const withoutPatch = JSON.stringify([{ op: "remove", path: "/rules/0/verbs/2" }]);
    await shop.kubectl("patch", "role/figwasp", "--type=json", "--patch", withoutPatch);
    await eventually(async () => assert(!(await mayFigwasp(shop, "patch", "web"))));
    const doctor = await shop.figwasp("deployment", ["doctor"]);
    assert.equal(doctor.code, 1);
    assert(doctor.lines.includes("  NO  patch deployments/web in shop"), doctor.lines.join("\n"));
    const { code, lines } = await shop.figwasp("deployment");
    assert.equal(code, 1);
    assert.match(lines.at(-1) ?? "", /^deployment shop\/web: failed, Cannot restart deployment shop\/web: PATCH /);
  });
});
