/**
 * A mutating admission webhook that the API server asks about the objects of one namespace. It is a server in the
 * process of the test, on loopback, and over TLS, which the API server insists on.
 */
import type { TestContext } from "node:test";
import { newAuthority, serveTls } from "../../support/tls.ts";
import { call } from "./api.ts";
import { eventually, type Shop } from "./shop.ts";

/** What it does with the `spec` of an object. False: the object is refused. */
export type Mutate<Spec> = (spec: Spec) => void | false;

interface Review {
  request: { uid: string; resource: { resource: string }; object: { spec?: unknown } };
}

/** What it is asked about: Deployments when they are changed, the others when they are made. */
export type Resource = "pods" | "replicasets" | "deployments";

/** Registers one for the time of a test; resolves when the API server asks it. */
export async function admit<Spec>(t: TestContext, shop: Shop, resource: Resource, mutate: Mutate<Spec>): Promise<void> {
  const { namespace } = shop;
  const authority = await newAuthority("an admission webhook");
  let isAsked = false;
  const stub = await serveTls(t, await authority.issue("localhost"), ({ body }, response) => {
    const { request } = JSON.parse(body) as Review;
    isAsked = true;
    const { uid, object } = request;
    const isPing = request.resource.resource === pinged;
    const allowed = isPing || mutate(object.spec as Spec) !== false;
    const patch = Buffer.from(JSON.stringify([{ op: "replace", path: "/spec", value: object.spec }])).toString(
      "base64",
    );
    const change = isPing || !allowed ? {} : { patchType: "JSONPatch", patch };
    const review = { apiVersion: "admission.k8s.io/v1", kind: "AdmissionReview" };
    response.writeHead(200, { "content-type": "application/json" });
    response.end(JSON.stringify({ ...review, response: { uid, allowed, ...change } }));
  });
  const name = `${namespace}-${resource}`;
  const body = configurationOf(name, { namespace, resource, url: `https://${stub.host}/`, ca: authority.cert });
  await call("POST", path, { body });
  t.after(() => call("DELETE", `${path}/${name}`));
  // The API server learns of it a moment later.
  await eventually(async () => {
    await call("POST", `/api/v1/namespaces/${namespace}/${pinged}?dryRun=All`, {
      body: { metadata: { name: "ping" } },
    });
    if (!isAsked) throw new Error("the API server does not ask the webhook yet");
  });
}

const path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

// It is asked about these too, so that the API server can be made to ask it.
const pinged = "configmaps";

interface Hook {
  namespace: string;
  resource: Resource;
  url: string;
  ca: string;
}

function configurationOf(name: string, { namespace, resource, url, ca }: Hook): object {
  const apiVersions = ["v1"];
  const operations = [resource === "deployments" ? "UPDATE" : "CREATE"];
  const what = { apiGroups: [resource === "pods" ? "" : "apps"], apiVersions, resources: [resource], operations };
  const ping = { apiGroups: [""], apiVersions, resources: [pinged], operations: ["CREATE"] };
  const webhook = {
    name: "mutate.shop.test",
    rules: [what, ping],
    namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } },
    clientConfig: { url, caBundle: Buffer.from(ca).toString("base64") },
    admissionReviewVersions: ["v1"],
    sideEffects: "None", // else the API server would refuse a dry run
  };
  return { metadata: { name }, webhooks: [webhook] };
}
