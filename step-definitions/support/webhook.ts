import assert from "node:assert/strict";
import type { V1MutatingWebhookConfiguration, V1Namespace } from "@kubernetes/client-node";
import { eventually } from "./eventually.ts";
import { nodeImage, scriptOf } from "./server.ts";
import { createAuthority, keyPairFiles } from "./tls.ts";
import type { FigwaspWorld } from "./world.ts";

/** Starts fixtures/admission-webhook with one of its rules, and returns when the API server asks it about each pod and
 *  Deployment of the scenario's namespace. No other scenario meets it. */
export async function startWebhook(world: FigwaspWorld, rule: string, settings: Record<string, string>): Promise<void> {
  const host = `webhook.${world.namespace}.test`;
  const authority = await createAuthority();
  const { files, command } = await scriptOf("admission-webhook");
  await world.startServer("webhook", {
    hosts: [host],
    image: nodeImage,
    environment: { RULE: rule, REGISTRY: world.registry.clusterUrl, ...settings },
    files: { ...files, ...(await keyPairFiles(authority, host)) },
    command,
    ready: /listening/,
  });
  await register(world, `https://${host}/`, authority.certificate);
}

async function register(world: FigwaspWorld, url: string, authority: string): Promise<void> {
  const { namespace } = world;
  const { apiServer } = world.environment;
  const [found] = await apiServer.list<V1Namespace>("namespaces", undefined, {
    fieldSelector: `metadata.name=${namespace}`,
  });
  const { uid = "" } = found?.metadata ?? {};
  const created = ["CREATE"];
  const written = [...created, "UPDATE"];
  const configuration: V1MutatingWebhookConfiguration = {
    // The cluster deletes it with its namespace, if this run is killed before it has done so.
    metadata: { name: namespace, ownerReferences: [{ apiVersion: "v1", kind: "Namespace", name: namespace, uid }] },
    webhooks: [
      {
        name: "acceptance.figwasp.test",
        admissionReviewVersions: ["v1"],
        sideEffects: "None",
        // A pod that it was not asked about would show nothing.
        failurePolicy: "Fail",
        clientConfig: { url, caBundle: Buffer.from(authority).toString("base64") },
        namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
        rules: [
          { apiGroups: [""], apiVersions: ["v1"], resources: ["pods", "configmaps"], operations: created },
          { apiGroups: ["apps"], apiVersions: ["v1"], resources: ["deployments"], operations: written },
        ],
      },
    ],
  };
  world.atTheEnd(() => apiServer.delete("mutatingwebhookconfigurations", undefined, namespace));
  await apiServer.create("mutatingwebhookconfigurations", undefined, configuration);
  await world.spend("servers", () => eventually(() => assertAsked(world)));
}

// The API server learns of a webhook by its own watch, a moment after it has stored it.
async function assertAsked({ namespace, environment }: FigwaspWorld): Promise<void> {
  const path = `api/v1/namespaces/${namespace}/configmaps?dryRun=All`;
  const answer = await environment.apiServer.ask("POST", path, JSON.stringify({ metadata: { name: "seen" } }));
  const { metadata } = JSON.parse(answer) as { metadata: { labels?: Record<string, string> } };
  assert.equal(metadata.labels?.["seen"], "true", "the API server does not ask the webhook");
}
