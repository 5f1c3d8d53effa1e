// Requests one address as figwasp does if its hosts folder has no entry for it, and prints the result.
import { fetch } from "../../lib/http/fetch.ts";
import { codeOf } from "../../lib/http/transport.ts";
import { Hosts } from "../../lib/registry/hosts.ts";

const [url = ""] = process.argv.slice(2);
const hosts = new Hosts("/nowhere", { httpProxy: "", httpsProxy: "", noProxy: "" });
try {
  const [endpoint] = await hosts.endpointsOf("localhost");
  const { status } = await fetch(url, { method: "GET", ...(endpoint && { agents: endpoint.agents }) });
  process.stdout.write(String(status));
} catch (error) {
  process.stdout.write(codeOf(error) ?? String(error));
}
process.exit();
