import { type Ending, witnessOf } from "./leaks.ts";
import { folderOf } from "./registry.ts";
import { serve, type Stub } from "./serve.ts";

/** A kubeconfig for an API server that speaks plain http on loopback. */
export function kubeconfigFor(host: string): string {
  return JSON.stringify({
    "current-context": "stub",
    clusters: [{ name: "stub", cluster: { server: `http://${host}`, "insecure-skip-tls-verify": true } }],
    users: [{ name: "stub", user: { token: "api-token" } }],
    contexts: [{ name: "stub", context: { cluster: "stub", user: "stub", namespace: "shop" } }],
  });
}

type Answer = object | ((path: string) => object);

/** An API server that answers by `METHOD /path`; anything else is a 404 with a Status. KUBECONFIG is set to it
 *  for the time of the test. An answer with a `code` is a Status. */
export async function serveApi(t: Ending, answers: Record<string, Answer>): Promise<Stub> {
  const stub = await serve(t, ({ method, path }, response) => {
    const answer = answers[`${method} ${path.split("?")[0]}`];
    const body = typeof answer === "function" ? answer(path) : (answer ?? { code: 404, message: "no such thing" });
    response.writeHead("code" in body ? Number(body.code) : 200, { "content-type": "application/json" });
    response.end(JSON.stringify(body));
  });
  const folder = await folderOf(t, { kubeconfig: kubeconfigFor(stub.host) });
  useKubeconfig(t, `${folder}/kubeconfig`);
  return stub;
}

/** Sets KUBECONFIG for the time of the test. */
export function useKubeconfig(t: Ending, file: string): void {
  const before = process.env["KUBECONFIG"];
  process.env["KUBECONFIG"] = file;
  witnessOf(t).endings.push(() => {
    if (before === undefined) delete process.env["KUBECONFIG"];
    else process.env["KUBECONFIG"] = before;
  });
}
