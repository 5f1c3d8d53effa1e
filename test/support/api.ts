import { type Ending, witnessOf } from "./leaks.ts";
import { folderOf } from "./registry.ts";
import { serve, type Stub } from "./serve.ts";

/** A kubeconfig for an API server on loopback over plain http. */
export function kubeconfigFor(host: string): string {
  return JSON.stringify({
    "current-context": "stub",
    clusters: [{ name: "stub", cluster: { server: `http://${host}`, "insecure-skip-tls-verify": true } }],
    users: [{ name: "stub", user: { token: "api-token" } }],
    contexts: [{ name: "stub", context: { cluster: "stub", user: "stub", namespace: "shop" } }],
  });
}

type Answer = object | ((path: string) => object);

/** An API server with an answer for each `METHOD /path`; it answers anything else with 404 and a Status. An answer
 *  with a `code` is a Status. KUBECONFIG leads to the server until the test ends. */
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

/** Sets KUBECONFIG until the test ends. */
export function useKubeconfig(t: Ending, file: string): void {
  const before = process.env["KUBECONFIG"];
  process.env["KUBECONFIG"] = file;
  witnessOf(t).endings.push(() => {
    if (before === undefined) delete process.env["KUBECONFIG"];
    else process.env["KUBECONFIG"] = before;
  });
}
