/**
 * Which workloads a run looks at: those that are named, or those that a list finds by label.
 */
import { ConfigError, statusOf } from "../errors.ts";
import { kinds, type Workload, type WorkloadName } from "../kubernetes/objects.ts";
import { messageOf, quote } from "../text.ts";
import { failedFinding, type Finding } from "../verdicts.ts";
import { defaultSelector } from "./config.ts";
import type { RunContext } from "./context.ts";

/** A workload to look at: named by the user, or read by a list. Failed: a list that could not be read. */
export type Selection =
  | { kind: "named"; workload: WorkloadName }
  | { kind: "listed"; workload: Workload }
  | { kind: "failed"; finding: Finding };

/** The named workloads, or what the selector finds of each kind. A kind that cannot be listed is one failed finding,
 *  and the other kinds are looked at all the same. Throws ConfigError if the API server cannot read the selector. */
export async function selectWorkloads({ config, namespace, cluster }: RunContext): Promise<Selection[]> {
  const { targets, isAllNamespaces, selector } = config;
  if (targets.length > 0) return targets.map((target) => ({ kind: "named", workload: { ...target, namespace } }));

  const where = isAllNamespaces ? "in all namespaces" : `in ${namespace}`;
  const lists = kinds.map(async (kind): Promise<Selection[]> => {
    try {
      const workloads = await cluster.listWorkloads(kind, isAllNamespaces ? undefined : namespace, selector);
      return workloads.map((workload) => ({ kind: "listed", workload }));
    } catch (error) {
      refuseSelector(selector, error);
      const list = { kind: "list", name: `${kind}s ${where}` } as const;
      return [{ kind: "failed", finding: failedFinding(list, "list", error) }];
    }
  });
  return (await Promise.all(lists)).flat();
}

// The API server answers 400 to a selector that it cannot read, and its answer says why.
function refuseSelector(selector: string, error: unknown): void {
  const isOwn = selector !== "" && selector !== defaultSelector;
  if (!isOwn || statusOf(error) !== 400) return;
  const reason = messageOf(error);
  const message = `Cannot use --selector (FIGWASP_TARGET_SELECTOR) ${quote(selector)}: ${reason}`;
  throw new ConfigError(message, { cause: error });
}
