/**
 * The smallest rights with which figwasp can look after some workloads, as `figwasp rbac` prints them.
 */
import type { Finding } from "../../figwasp.ts";
import { type Kind, kinds } from "../kubernetes/objects.ts";
import type { Config } from "./config.ts";

/** The workloads that figwasp is to look after. */
export interface Selection {
  /** Undefined for all namespaces. */
  namespace: string | undefined;
  /** Where figwasp itself runs. */
  ownNamespace: string;
  /** Whether they are named one by one, or found by a list. */
  isNamed: boolean;
  workloads: { kind: Kind; name: string }[];
  /** The names of the Secrets that their pods are pulled with, by namespace. */
  pullSecrets: Map<string, string[]>;
}

type Where = Pick<Config, "isAllNamespaces" | "targets"> & { namespace: string };

/** What was selected, from what was found of it. */
export function toSelection(findings: Finding[], { isAllNamespaces, targets, namespace }: Where): Selection {
  const found = findings.flatMap(({ of, pullSecrets = [] }) =>
    typeof of === "string" ? [] : [{ ...of, pullSecrets }],
  );
  const byNamespace = [...Map.groupBy(found, (workload) => workload.namespace)].map(([where, workloads]) => {
    const names = [...new Set(workloads.flatMap(({ pullSecrets }) => pullSecrets))];
    return [where, names] as const;
  });
  return {
    namespace: isAllNamespaces ? undefined : namespace,
    ownNamespace: namespace,
    isNamed: targets.length > 0,
    workloads: found.map(({ kind, name }) => ({ kind, name })),
    pullSecrets: new Map(byNamespace.filter(([, names]) => names.length > 0)),
  };
}

/** One right of a Role, or of a ClusterRole. */
export interface Right {
  /** Undefined for all namespaces. */
  namespace: string | undefined;
  verb: string;
  group: string;
  resource: string;
  name: string | undefined;
  /** What comes of it where it is not granted, if that is no failure. */
  isOptional: string | undefined;
}

/** Each right of the smallest Roles for some workloads. */
export function rightsOf(selection: Selection): Right[] {
  return rolesFor(selection).flatMap(({ namespace, rules }) => {
    return rules.flatMap(({ apiGroups, resources, resourceNames = [undefined], verbs }) => {
      const each = resources.flatMap((resource) => resourceNames.map((name) => ({ resource, name })));
      return each.flatMap(({ resource, name }) => {
        const isOptional = resource === "events" ? "so that no Event is written" : undefined;
        return verbs.map((verb) => ({ namespace, verb, group: apiGroups[0] ?? "", resource, name, isOptional }));
      });
    });
  });
}

/** A ServiceAccount, and the Roles that it needs with their bindings, as YAML: a ClusterRole for all namespaces. Throws
 *  Error where a workload could not be read, or none was found. */
export async function printRoles(findings: Finding[], where: Where): Promise<string> {
  const { dumpYaml } = await import("../kubernetes/client-library.ts");
  for (const { verdict } of findings) if (verdict.kind === "failed") throw verdict.error;
  const selection = toSelection(findings, where);
  if (selection.workloads.length === 0) {
    throw new Error("Cannot tell which rights are needed: no workload was found, name one or label it");
  }
  const account = { name: "figwasp", namespace: selection.ownNamespace };
  const apiGroup = "rbac.authorization.k8s.io";
  const roles = rolesFor(selection).flatMap(({ namespace, rules }) => {
    const kind = namespace === undefined ? "ClusterRole" : "Role";
    const metadata = { name: "figwasp", ...(namespace !== undefined && { namespace }) };
    const roleRef = { apiGroup, kind, name: "figwasp" };
    const subjects = [{ kind: "ServiceAccount", ...account }];
    const apiVersion = `${apiGroup}/v1`;
    return [
      { apiVersion, kind, metadata, rules },
      { apiVersion, kind: `${kind}Binding`, metadata, roleRef, subjects },
    ];
  });
  return [{ apiVersion: "v1", kind: "ServiceAccount", metadata: account }, ...roles]
    .map((document) => dumpYaml(document))
    .join("---\n")
    .trimEnd();
}

interface Rule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: (string | undefined)[];
  verbs: string[];
}

// Secrets are granted by name, and so in their own namespace alone.
function rolesFor({
  namespace,
  pullSecrets,
  ...selection
}: Selection): { namespace: string | undefined; rules: Rule[] }[] {
  const secrets = [...pullSecrets].map(([where, resourceNames]) => {
    return { namespace: where, rules: [{ apiGroups: [""], resources: ["secrets"], resourceNames, verbs: ["get"] }] };
  });
  const rules = rulesFor(selection);
  if (namespace === undefined) return [{ namespace, rules }, ...secrets];
  return [{ namespace, rules: [...rules, ...secrets.flatMap((each) => each.rules)] }];
}

function rulesFor({ isNamed, workloads }: Pick<Selection, "isNamed" | "workloads">): Rule[] {
  const ofKind = (kind: Kind) => workloads.filter((each) => each.kind === kind).map(({ name }) => name);
  const used = kinds.filter((kind) => ofKind(kind).length > 0);
  const named = used.map((kind) => apps([`${kind}s`], ["get", "patch"], ofKind(kind)));
  const listed = [
    apps(
      kinds.map((kind) => `${kind}s`),
      ["list", "get", "patch"],
    ),
  ];
  // Which pods belong to the newest template; a StatefulSet says it itself.
  const revisions = [
    ...(used.includes("deployment") ? ["replicasets"] : []),
    ...(used.includes("daemonset") ? ["controllerrevisions"] : []),
  ];
  return [
    ...(isNamed ? named : listed),
    ...(revisions.length > 0 ? [apps(revisions, ["list"])] : []),
    { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
    { apiGroups: [""], resources: ["events"], verbs: ["create"] },
  ];
}

function apps(resources: string[], verbs: string[], resourceNames?: string[]): Rule {
  return { apiGroups: ["apps"], resources, ...(resourceNames && { resourceNames }), verbs };
}
