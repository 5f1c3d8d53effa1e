/**
 * Hints about tools that apply a workload's manifests from Git, and may take a restart back. docs/gitops.md names the
 * source of each rule.
 */

const page = "https://github.com/figwasp/figwasp/blob/main/docs/gitops.md";
const fluxManager = "flux-client-side-apply";

interface Applier {
  name: string;
  /** Labels or annotations that it gives to what it applies. `app.kubernetes.io/instance` proves nothing: charts set
   *  it. */
  keys: string[];
  /** What to set so that a restart is not taken back; undefined if it is set already. */
  remedyFor: (fieldManager: string) => string | undefined;
}

const appliers: Applier[] = [
  {
    name: "Flux",
    keys: ["kustomize.toolkit.fluxcd.io/name"],
    remedyFor: (manager) => (manager === fluxManager ? undefined : `set FIGWASP_FIELD_MANAGER=${fluxManager}`),
  },
  {
    name: "Flux, from a HelmRelease,",
    keys: ["helm.toolkit.fluxcd.io/name"],
    remedyFor: () => "take upgrade.force out of the HelmRelease",
  },
  {
    name: "Argo CD",
    keys: ["argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"],
    remedyFor: (manager) =>
      `give the Application ignoreDifferences with managedFieldsManagers: [${manager}], and RespectIgnoreDifferences=true`,
  },
];

/** A line for each tool that applies a workload with these keys of labels and annotations, if something remains to be
 *  set. */
export function hintsFor(metadataKeys: string[], fieldManager: string): string[] {
  return appliers.flatMap(({ name, keys, remedyFor }) => {
    const isApplied = keys.some((key) => metadataKeys.includes(key));
    const remedy = isApplied ? remedyFor(fieldManager) : undefined;
    if (remedy === undefined) return [];
    return [`${name} applies what is restarted: should it take that back, ${remedy} (${page})`];
  });
}
