import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir, readFile, stat } from "node:fs/promises";
import { builtinModules } from "node:module";
import { describe, it, type TestContext } from "node:test";
import { promisify } from "node:util";
import { connectCluster, main } from "../figwasp.ts";
import { fetch } from "../lib/http/fetch.ts";
import { crowd, publicRegistry, type Size, sizeOf } from "./support/crowd.ts";
import { folderOf } from "./support/registry.ts";
import type { Stub } from "./support/serve.ts";
import { newAuthority, serveTls } from "./support/tls.ts";

// The cost of a run in requests, connections and loaded modules; bench/ measures CPU and memory.

/** A cluster and its registries over TLS, and a folder with a kubeconfig and the hosts folder for them. */
async function aCrowd(t: TestContext, size: Size) {
  const authority = await newAuthority("a CA");
  const { cert: ca } = authority;
  const certificate = await authority.issue("localhost");
  const numbers = Array.from({ length: size.registries }, (_each, at) => at);
  const registries = await Promise.all(numbers.map(() => serveTls(t, certificate, publicRegistry())));
  const names = registries.map(nameOf);
  const api = await serveTls(t, certificate, crowd(size, names));
  const hosts = names.flatMap((name) => [
    [`${name}/hosts.toml`, `server = "https://${name}"\nca = "ca.crt"`],
    [`${name}/ca.crt`, ca],
  ]);
  const cluster = {
    server: `https://${nameOf(api)}`,
    "certificate-authority-data": Buffer.from(ca).toString("base64"),
  };
  const kubeconfig = {
    "current-context": "stub",
    clusters: [{ name: "stub", cluster }],
    users: [{ name: "stub", user: { token: "api-token" } }],
    contexts: [{ name: "stub", context: { cluster: "stub", user: "stub", namespace: "shop-0" } }],
  };
  const folder = await folderOf(t, { ...Object.fromEntries(hosts), kubeconfig: JSON.stringify(kubeconfig) });
  return { api, registries, folder };
}

function nameOf({ host }: Stub): string {
  return host.replace("127.0.0.1", "localhost");
}

/** Counts requests by method and resource: `GET /api/v1/namespaces/shop-0/pods` as `GET pods`. */
function countLines(stubs: Stub[]): Record<string, number> {
  const lines = stubs.flatMap((stub) =>
    stub.lines().map((line) => line.replace(/ \/.*\/(?=[a-z]+$)| \/(?=token$)/, " ")),
  );
  return Object.fromEntries([...Map.groupBy(lines, (line) => line)].map(([line, all]) => [line, all.length]));
}

const sizes: [number, string, Record<string, number>][] = [
  [1, "app-0", { "GET replicasets": 1, "GET pods": 1, "GET /apis/apps/v1/namespaces/shop-0/deployments/app-0": 1 }],
  [
    100,
    "-A",
    {
      "GET deployments": 1,
      "GET statefulsets": 1,
      "GET daemonsets": 1,
      "GET replicasets": 1,
      "GET controllerrevisions": 1,
      "GET pods": 1,
    },
  ],
  [
    10_000,
    "-A",
    // Pages of 500 objects. 1 600 Deployments: 4 pages. 1 100 ReplicaSets in each of 16 namespaces: 3 pages each.
    // 1 100 ControllerRevisions of DaemonSets in each of 2 other namespaces: 3 each. 500 pods in each of 20: 1 each.
    {
      "GET deployments": 4,
      "GET statefulsets": 1,
      "GET daemonsets": 1,
      "GET replicasets": 48,
      "GET controllerrevisions": 6,
      "GET pods": 20,
    },
  ],
];

describe("a run in which nothing changed", () => {
  for (const [pods, what, reads] of sizes) {
    it(`asks little, over one connection to each host: ${pods} pods`, { timeout: 60_000 }, async (t) => {
      const size = sizeOf(pods);
      const { api, registries, folder } = await aCrowd(t, size);
      const lines: string[] = [];
      const env = { KUBECONFIG: "", FIGWASP_CERTS_DIR: folder };
      const outside = {
        fetch,
        connect: connectCluster,
        now: () => new Date(),
        log: (line: string) => lines.push(line),
      };
      assert.equal(await main([what, "--kubeconfig", `${folder}/kubeconfig`], env, outside), 0, lines.at(-1));
      if (pods > 1) assert.equal(lines.at(-1), `${size.workloads} workloads: ${size.workloads} current`);
      assert.deepEqual(countLines([api]), reads);
      // The first HEADs, up to four at once for a registry, are answered with a challenge. Later ones have a token.
      const { "GET token": tokens, ...heads } = countLines(registries);
      const asked = Object.values(heads).reduce((sum, count) => sum + count, 0);
      assert.equal(tokens, size.images);
      assert(asked > size.images && asked <= size.images + 4 * size.registries, `${asked} HEADs`);
      for (const stub of [api, ...registries]) assert.equal(stub.connections(), 1);
    });
  }
});

describe("npm run build", () => {
  it("keeps what is loaded at each start small, and the client library apart", async (t) => {
    const folder = await folderOf(t, {});
    await promisify(execFile)(process.execPath, ["build.ts", folder]);
    const files = (await readdir(folder)).filter((file) => file.endsWith(".cjs"));
    assert.deepEqual(files, ["client-library.cjs", "doctor.cjs", "figwasp.cjs", "rbac.cjs"]);
    const { size } = await stat(`${folder}/figwasp.cjs`);
    assert(size < 120_000, `figwasp.cjs has ${size} bytes`);
    const text = await readFile(`${folder}/figwasp.cjs`, "utf8");
    const loaded = new Set(Array.from(text.matchAll(/require\("([^"]+)"\)/g), ([, name = ""]) => name));
    const others = [...loaded].filter((name) => !builtinModules.includes(name.replace("node:", "")));
    assert.deepEqual(others.toSorted(), ["./client-library.cjs", "./doctor.cjs", "./rbac.cjs"]);
    for (const heavy of ["node:fs/promises", "node:zlib", "node:http2", "node:worker_threads"]) {
      assert(!loaded.has(heavy), `${heavy} is loaded`);
    }
    const { stdout } = await promisify(execFile)(process.execPath, [`${folder}/figwasp.cjs`, "--version"]);
    assert.match(stdout, /^figwasp \d/);
  });
});
