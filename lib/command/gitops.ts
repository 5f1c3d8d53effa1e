/**
 * What applies a workload's manifests from Git, and what keeps it from taking a restart back. docs/gitops.md says where
 * each of this is from.
 */

const page = "https://github.com/figwasp/figwasp/blob/main/docs/gitops.md";
const fluxManager = "flux-client-side-apply";

interface Applier {
  name: string;
  /** Of labels or annotations that it gives to what it applies. `app.kubernetes.io/instance` is no proof: charts have it. */
  keys: string[];
  /** What to set where a restart is taken back; undefined where it is set. */
  remedy: (fieldManager: string) => string | undefined;
}

const appliers: Applier[] = [
  {
    name: "Flux",
    keys: ["kustomize.toolkit.fluxcd.io/name"],
    remedy: (manager) => (manager === fluxManager ? undefined : `set FIGWASP_FIELD_MANAGER=${fluxManager}`),
  },
  {
    name: "Flux, from a HelmRelease,",
    keys: ["helm.toolkit.fluxcd.io/name"],
    remedy: () => "take upgrade.force out of the HelmRelease",
  },
  {
    name: "Argo CD",
    keys: ["argocd.argoproj.io/tracking-id", "argocd.argoproj.io/instance"],
    remedy: (manager) =>
      `give the Application ignoreDifferences with managedFieldsManagers: [${manager}], and RespectIgnoreDifferences=true`,
  },
];

/** A line for each tool that applies a workload with these keys of labels and annotations, if there is something to set. */
export function hintsFor(keys: string[], fieldManager: string): string[] {
  return appliers.flatMap(({ name, keys: marks, remedy }) => {
    const what = marks.some((mark) => keys.includes(mark)) ? remedy(fieldManager) : undefined;
    return what === undefined ? [] : [`${name} applies what is restarted: should it take that back, ${what} (${page})`];
  });
}
