import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hintsFor } from "../lib/command/gitops.ts";

describe("hintsFor()", () => {
  const hints: [string, string[], string, RegExp[]][] = [
    ["a Kustomization of Flux", ["kustomize.toolkit.fluxcd.io/name"], "figwasp", [/^Flux .*MANAGER=flux-client-side/]],
    ["the same, whose manager is set", ["kustomize.toolkit.fluxcd.io/name"], "flux-client-side-apply", []],
    [
      "a HelmRelease",
      ["helm.toolkit.fluxcd.io/name"],
      "flux-client-side-apply",
      [/^Flux, from a HelmRelease, .*upgrade\.force/],
    ],
    [
      "an Application",
      ["argocd.argoproj.io/tracking-id"],
      "figwasp",
      [/^Argo CD .*managedFieldsManagers: \[figwasp\]/],
    ],
    ["one that is set", ["argocd.argoproj.io/instance"], "me", [/^Argo CD .*managedFieldsManagers: \[me\]/]],
    ["both marks of one", ["argocd.argoproj.io/instance", "argocd.argoproj.io/tracking-id"], "figwasp", [/^Argo CD /]],
    ["several", ["helm.toolkit.fluxcd.io/name", "argocd.argoproj.io/instance"], "figwasp", [/^Flux/, /^Argo/]],
    ["a label that any chart has", ["app.kubernetes.io/instance", "app.kubernetes.io/managed-by"], "figwasp", []],
  ];
  for (const [what, keys, fieldManager, patterns] of hints) {
    it(`says what keeps the restart where the workload carries the mark of ${what}`, () => {
      const found = hintsFor(keys, fieldManager);
      assert.equal(found.length, patterns.length, found.join("\n"));
      for (const [at, pattern] of patterns.entries()) assert.match(found[at] ?? "", pattern);
    });
  }
});
