/**
 * `figwasp rbac`: the smallest Roles with which figwasp can judge and restart some workloads.
 */
import type { Right } from "../kubernetes/cluster.ts";
import { type Kind, kinds } from "../kubernetes/objects.ts";
import type { Finding } from "../verdicts.ts";
import type { RunContext } from "./context.ts";

/** What the Roles have to cover. */
export interface RoleScope {
  /** Undefined for all namespaces. */
  namespace: string | undefined;
  /** Where figwasp itself runs. */
  ownNamespace: string;
  /** Whether the workloads are named one by one, rather than found by a list. */
  isNamed: boolean;
  workloads: { kind: Kind; name: string }[];
  /** The names of the Secrets that their pods are pulled with, by namespace. */
  pullSecrets: Map<string, string[]>;
}

/** Which workloads a run selects. */
type Selector = Pick<RunContext, "namespace"> & { config: Pick<RunContext["config"], "isAllNamespaces" | "targets"> };

/** What the Roles have to cover so that these findings can be made. */
export function toRoleScope(findings: Finding[], { config, namespace }: Selector): RoleScope {
  const workloads = findings.flatMap(({ subject, pullSecrets = [] }) => {
    return subject.kind === "list" ? [] : [{ ...subject, pullSecrets }];
  });
  const byNamespace = Map.groupBy(workloads, (workload) => workload.namespace);
  const secretNames = [...byNamespace].map(([name, members]): [string, string[]] => {
    return [name, [...new Set(members.flatMap(({ pullSecrets }) => pullSecrets))]];
  });
  return {
    namespace: config.isAllNamespaces ? undefined : namespace,
    ownNamespace: namespace,
    isNamed: config.targets.length > 0,
    workloads: workloads.map(({ kind, name }) => ({ kind, name })),
    pullSecrets: new Map(secretNames.filter(([, names]) => names.length > 0)),
  };
}

/** A right, and what is missed without it if that is no failure. */
export interface OptionalRight extends Right {
  isOptional: string | undefined;
}

/** Each right of the smallest Roles for these workloads. */
export function rightsOf(scope: RoleScope): OptionalRight[] {
  return rolesFor(scope).flatMap(({ namespace, rules }) => {
    return rules.flatMap(({ apiGroups: [group = ""], resources, resourceNames = [undefined], verbs }) => {
      return resources.flatMap((resource) => {
        const isOptional = resource === "events" ? "so that no Event is written" : undefined;
        const rightsTo = (name: string | undefined) => {
          return verbs.map((verb) => ({ namespace, verb, group, resource, name, isOptional }));
        };
        return resourceNames.flatMap(rightsTo);
      });
    });
  });
}

/** A ServiceAccount and the Roles that it needs with their bindings, as YAML; for all namespaces a ClusterRole. Throws
 *  Error if a workload could not be read, or none was found. */
export async function printRoles(findings: Finding[], selector: Selector): Promise<string> {
  const { dumpYaml } = await import("../kubernetes/client-library.ts");
  for (const { verdict } of findings) if (verdict.kind === "failed") throw verdict.error;
  const scope = toRoleScope(findings, selector);
  if (scope.workloads.length === 0) {
    throw new Error("Cannot tell which rights are needed: no workload was found, name one or label it");
  }
  const account = { name: "figwasp", namespace: scope.ownNamespace };
  const apiGroup = "rbac.authorization.k8s.io";
  const roles = rolesFor(scope).flatMap(({ namespace, rules }) => {
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

interface RoleRules {
  /** Undefined for a ClusterRole. */
  namespace: string | undefined;
  rules: Rule[];
}

// Secrets are granted by name. A name means another Secret in each namespace, so they stand in a Role of their own
// namespace.
function rolesFor({ namespace, pullSecrets, isNamed, workloads }: RoleScope): RoleRules[] {
  const secretRoles = [...pullSecrets].map(([secretNamespace, resourceNames]) => {
    const rule = { apiGroups: [""], resources: ["secrets"], resourceNames, verbs: ["get"] };
    return { namespace: secretNamespace, rules: [rule] };
  });
  const rules = rulesFor({ isNamed, workloads });
  if (namespace === undefined) return [{ namespace, rules }, ...secretRoles];
  return [{ namespace, rules: [...rules, ...secretRoles.flatMap((role) => role.rules)] }];
}

function rulesFor({ isNamed, workloads }: Pick<RoleScope, "isNamed" | "workloads">): Rule[] {
  const namesOf = (kind: Kind) => workloads.filter((workload) => workload.kind === kind).map(({ name }) => name);
  const used = kinds.filter((kind) => namesOf(kind).length > 0);
  const named = used.map((kind) => apps([`${kind}s`], ["get", "patch"], namesOf(kind)));
  const resources = kinds.map((kind) => `${kind}s`);
  const listed = [apps(resources, ["list", "get", "patch"])];
  // They tell which pods are of the newest template, and whether somebody has taken a restart back.
  const revisions = [
    ...(used.includes("deployment") ? ["replicasets"] : []),
    ...(used.some((kind) => kind !== "deployment") ? ["controllerrevisions"] : []),
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
