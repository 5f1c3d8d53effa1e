import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { describe, it } from "node:test";
import { YAML } from "zx";
import { nodesRight } from "../lib/command/nodes.ts";
import { rightsOf } from "../lib/command/rbac.ts";
import { kinds } from "../lib/kubernetes/objects.ts";

interface Role {
  kind: string;
  rules: { apiGroups: string[]; resources: string[]; verbs: string[] }[];
}

/** The rights of the only role of this kind in a manifest, as `verb group/resource`. */
async function rightsIn(file: string, ofKind = "Role"): Promise<Set<string>> {
  const documents = YAML.parseAllDocuments(await readFile(file, "utf8")).map((each) => each.toJSON() as Role);
  const roles = documents.filter(({ kind }) => kind === ofKind);
  assert.equal(roles.length, 1);
  const rights = (roles[0]?.rules ?? []).flatMap(({ apiGroups, resources, verbs }) => {
    return resources.flatMap((resource) => verbs.map((verb) => `${verb} ${apiGroups.join()}/${resource}`));
  });
  return new Set(rights);
}

/** What a run needs for workloads of these kinds that a label selects, and for their pull Secret. */
function rightsFor(wanted: (typeof kinds)[number][], isNamed = false): Set<string> {
  const workloads = wanted.map((kind) => ({ kind, name: "web" }));
  const pullSecrets = new Map([["shop", ["pull"]]]);
  const scope = { namespace: "shop", ownNamespace: "shop", isNamed, workloads, pullSecrets };
  return new Set(rightsOf(scope).map(({ verb, group, resource }) => `${verb} ${group}/${resource}`));
}

describe("rightsOf()", () => {
  it("asks for all that deploy/base grants, and for nothing else", async () => {
    assert.deepEqual(rightsFor([...kinds]), await rightsIn("deploy/base/rbac.yaml"));
  });

  it("leaves out the right to know the nodes, which a component grants and no folder", async () => {
    const { verb, group, resource } = nodesRight;
    const right = `${verb} ${group}/${resource}`;
    assert.deepEqual(await rightsIn("deploy/components/nodes/rbac.yaml", "ClusterRole"), new Set([right]));
    assert(!rightsFor([...kinds]).has(right));
    const files = (await readdir("deploy", { recursive: true })).filter((file) => file.endsWith(".yaml"));
    for (const file of files.filter((name) => !name.startsWith("components/nodes/"))) {
      assert.doesNotMatch(await readFile(`deploy/${file}`, "utf8"), /\bnodes\b/, file);
    }
  });

  it("asks for the ReplicaSets of Deployments, and for the ControllerRevisions of the other kinds", () => {
    const revisionsFor = (kind: (typeof kinds)[number]) => {
      return [...rightsFor([kind])].filter((right) => /replicasets|controllerrevisions/.test(right));
    };
    assert.deepEqual(revisionsFor("deployment"), ["list apps/replicasets"]);
    assert.deepEqual(revisionsFor("statefulset"), ["list apps/controllerrevisions"]);
    assert.deepEqual(revisionsFor("daemonset"), ["list apps/controllerrevisions"]);
  });

  it("asks for a named Deployment what figwasp v1's Role grants, by another verb, and for Events", async () => {
    const granted = await rightsIn("fixtures/figwasp-v1.yaml");
    const others: Record<string, string> = {
      "patch apps/deployments": "update apps/deployments",
      "get /secrets": "list /secrets",
    };
    const missing = [...rightsFor(["deployment"], true)].filter((right) => !granted.has(others[right] ?? right));
    assert.deepEqual(missing, ["create /events"]);
  });
});
