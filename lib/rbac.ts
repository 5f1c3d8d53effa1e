/**
 * The smallest rights with which figwasp can look after some workloads, as `figwasp rbac` prints them.
 */
import { dumpYaml } from "@kubernetes/client-node";
import { type Kind, kinds } from "./config.ts";

/** The workloads of a namespace that figwasp is to look after. */
export interface Selection {
  namespace: string;
  /** Whether they are named one by one, or found by a list. */
  isNamed: boolean;
  workloads: { kind: Kind; name: string }[];
  /** The names of the Secrets that their pods are pulled with. */
  pullSecrets: string[];
}

/** Workloads with the Secrets of their pods, by namespace. */
export function toSelections(
  found: { kind: Kind; namespace: string; name: string; pullSecrets: string[] }[],
  isNamed: boolean,
): Selection[] {
  const byNamespace = Map.groupBy(found, ({ namespace }) => namespace);
  return [...byNamespace].map(([namespace, workloads]) => {
    const pullSecrets = [...new Set(workloads.flatMap((workload) => workload.pullSecrets))];
    return { namespace, isNamed, workloads: workloads.map(({ kind, name }) => ({ kind, name })), pullSecrets };
  });
}

/** One right of a Role. */
export interface Right {
  namespace: string;
  verb: string;
  group: string;
  resource: string;
  name: string | undefined;
  /** What comes of it where it is not granted, if that is no failure. */
  isOptional: string | undefined;
}

/** Each right of the smallest Role for some workloads. */
export function rightsOf(selection: Selection): Right[] {
  const { namespace } = selection;
  return rulesFor(selection).flatMap(({ apiGroups, resources, resourceNames = [undefined], verbs }) => {
    const each = resources.flatMap((resource) => resourceNames.map((name) => ({ resource, name })));
    return each.flatMap(({ resource, name }) => {
      const isOptional = resource === "events" ? "so that no Event is written" : undefined;
      return verbs.map((verb) => ({ namespace, verb, group: apiGroups[0] ?? "", resource, name, isOptional }));
    });
  });
}

interface Rule {
  apiGroups: string[];
  resources: string[];
  resourceNames?: (string | undefined)[];
  verbs: string[];
}

/** ServiceAccount, Role and RoleBinding for each namespace, as YAML. */
export function printRoles(selections: Selection[]): string {
  const documents = selections.flatMap((selection) => {
    const metadata = { name: "figwasp", namespace: selection.namespace };
    const apiVersion = "rbac.authorization.k8s.io/v1";
    const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "figwasp" };
    const subjects = [{ kind: "ServiceAccount", ...metadata }];
    return [
      { apiVersion: "v1", kind: "ServiceAccount", metadata },
      { apiVersion, kind: "Role", metadata, rules: rulesFor(selection) },
      { apiVersion, kind: "RoleBinding", metadata, roleRef, subjects },
    ];
  });
  return documents
    .map((document) => dumpYaml(document))
    .join("---\n")
    .trimEnd();
}

function rulesFor({ isNamed, workloads, pullSecrets }: Selection): Rule[] {
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
  const secrets = { apiGroups: [""], resources: ["secrets"], resourceNames: pullSecrets, verbs: ["get"] };
  return [
    ...(isNamed ? named : listed),
    ...(revisions.length > 0 ? [apps(revisions, ["list"])] : []),
    { apiGroups: [""], resources: ["pods"], verbs: ["list"] },
    ...(pullSecrets.length > 0 ? [secrets] : []),
    { apiGroups: [""], resources: ["events"], verbs: ["create"] },
  ];
}

function apps(resources: string[], verbs: string[], resourceNames?: string[]): Rule {
  return { apiGroups: ["apps"], resources, ...(resourceNames && { resourceNames }), verbs };
}
