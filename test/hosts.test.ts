import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { inspect, promisify } from "node:util";
import { parseReference } from "../figwasp.ts";
import { serveNobody } from "./support/deaf.ts";
import { serveProxy } from "./support/proxy.ts";
import { answerDigest, digestOf, folderOf, leadTo, openRegistry } from "./support/registry.ts";
import { listen, serve, type Stub } from "./support/serve.ts";
import { newAuthority, serveTls } from "./support/tls.ts";

const authority = await newAuthority("a company's CA");
const stranger = await newAuthority("another CA");
const onLoopback = await authority.issue("localhost");
const clients = await newAuthority("a CA for clients");
const figwasp = await clients.issue("figwasp");

const image = parseReference("registry.example/app");
const answer = answerDigest("v1");

const login = { key: "registry.example", credential: { basic: btoa("user:right") }, source: "Secret shop/pull" };
const keyring = { sources: [[login]], whyNoneUsable: [] };

type Files = Record<string, string>;

/** Resolves the image with a stub over https as registry.example. Returns the Registry, which has the notes. */
async function resolveAt(t: TestContext, stub: Stub, files: Files) {
  const fetch = leadTo({ "https://registry.example": `https://${stub.host}` });
  const registry = await openRegistry(t, { files, fetch });
  assert.equal(await registry.resolve(image), digestOf("v1"));
  return registry;
}

/** The files in the hosts folder of registry.example, with the stubs' CA. */
function folder(toml: string, files: Files = {}): Files {
  const all: Files = { "hosts.toml": toml, "company.crt": authority.cert, ...files };
  return Object.fromEntries(Object.entries(all).map(([name, text]) => [`registry.example/${name}`, text]));
}

describe("the CA of a registry", () => {
  it("is every *.crt of its folder, as Docker has them", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    await resolveAt(t, stub, {
      "registry.example/ca.crt": authority.cert,
      "registry.example/other.crt": stranger.cert,
    });
    assert.equal(stub.requests.length, 1);
  });

  const forms: [string, (absolute: string) => string][] = [
    ["a file", () => `ca = "company.crt"`],
    ["a file by its whole path", (absolute) => `ca = "${absolute}"`],
    ["a list of files", () => `ca = ["other.crt", "company.crt"]`],
    ["a list of files by their whole path", (absolute) => `ca = ["${absolute}"]`],
  ];
  for (const [what, toml] of forms) {
    it(`is ${what} in hosts.toml`, async (t) => {
      const elsewhere = join(await folderOf(t, { "company.crt": authority.cert }), "company.crt");
      const stub = await serveTls(t, onLoopback, answer);
      const files = folder(toml(elsewhere), { "other.crt": stranger.cert });
      if (toml("x").includes("x")) delete files["registry.example/company.crt"];
      await resolveAt(t, stub, files);
    });
  }

  it("may be several certificates in one file", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    await resolveAt(t, stub, { "registry.example/ca.crt": `${stranger.cert}\n${authority.cert}` });
  });

  it("is asked for, by the registry's name, where it is missing, and nothing is sent", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    const message =
      /^HEAD https:\/\/registry\.example\/v2\/app\/manifests\/latest failed: unable to verify the first certificate.*: put its CA into registry\.example\/ca\.crt of --certs-dir \(FIGWASP_CERTS_DIR\), or into the system's trust store$/;
    await assert.rejects(resolveAt(t, stub, {}), { message });
    assert.equal(stub.requests.length, 0);
  });

  it("is not believed to be another one", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    await assert.rejects(resolveAt(t, stub, { "registry.example/ca.crt": stranger.cert }), /unable to verify/);
    assert.equal(stub.requests.length, 0);
  });

  it("says nothing of another registry", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    const files = folder(`ca = "company.crt"`);
    const at = `https://${stub.host}`;
    const fetch = leadTo({ "https://registry.example": at, "https://other.example": at });
    const registry = await openRegistry(t, { files, fetch });
    await registry.resolve(image);
    await assert.rejects(registry.resolve(parseReference("other.example/app")), /unable to verify/);
    assert.equal(stub.requests.length, 1);
  });

  it("does not make a certificate of another name right", async (t) => {
    const stub = await serveTls(t, await authority.issue("evil.example"), answer);
    await assert.rejects(resolveAt(t, stub, { "registry.example/ca.crt": authority.cert }), /does not match/);
    assert.equal(stub.requests.length, 0);
  });

  for (const name of ["127.0.0.1", "localhost"]) {
    it(`is needed for ${name} as well`, async (t) => {
      const stub = await serveTls(t, onLoopback, answer);
      const host = stub.host.replace("127.0.0.1", name);
      const files = { [`${host}/hosts.toml`]: `server = "https://${host}"` };
      const bare = await openRegistry(t, { files });
      await assert.rejects(bare.resolve(parseReference(`${host}/app`)), /unable to verify/);
      assert.equal(stub.requests.length, 0);

      const toml = `server = "https://${host}"\nca = "ca.crt"`;
      const trusting = await openRegistry(t, {
        files: { [`${host}/hosts.toml`]: toml, [`${host}/ca.crt`]: authority.cert },
      });
      assert.equal(await trusting.resolve(parseReference(`${host}/app`)), digestOf("v1"));
    });
  }

  const unreadable: [string, Files, RegExp][] = [
    [
      "is no certificate, as Docker has it",
      { "registry.example/ca.crt": "PEM" },
      /registry\.example\/ca\.crt is no certificate: /,
    ],
    [
      "is no certificate",
      folder(`ca = "no.crt"`, { "no.crt": "PEM" }),
      /hosts\.toml: .*registry\.example\/no\.crt is no certificate: /,
    ],
    [
      "is a key",
      folder(`ca = "ca.key"`, { "ca.key": authority.key }),
      /hosts\.toml: .*registry\.example\/ca\.key is no certificate: /,
    ],
    ["is not there", folder(`ca = ["company.crt", "gone.crt"]`), /hosts\.toml: ENOENT: .*registry\.example\/gone\.crt/],
  ];
  for (const [what, files, message] of unreadable) {
    it(`is named where it ${what}`, async (t) => {
      const stub = await serveTls(t, onLoopback, answer);
      await assert.rejects(resolveAt(t, stub, files), message);
      assert.equal(stub.requests.length, 0);
    });
  }
});

// The tests set OpenSSL's variables instead of changing /etc/ssl. macOS and Windows have another kind of trust store.
const skip = process.platform !== "linux" && "needs a trust store in files";

describe("the system's trust store", { skip }, () => {
  const script = join(import.meta.dirname, "support/fetch-once.ts");

  // Node reads the trust store once per process, so each test starts a process of its own.
  async function fetchOnce(t: TestContext, env: (folder: string) => Record<string, string>): Promise<string> {
    const stub = await serveTls(t, onLoopback, answer);
    const trusted = await folderOf(t, { "ca.pem": authority.cert });
    const { stdout } = await promisify(execFile)(process.execPath, [script, `https://${stub.host}/`], {
      env: { PATH: process.env["PATH"], ...env(trusted) },
    });
    return stdout;
  }

  it("counts where SSL_CERT_FILE names it", async (t) => {
    assert.equal(await fetchOnce(t, (trusted) => ({ SSL_CERT_FILE: `${trusted}/ca.pem` })), "200");
  });

  it("counts where SSL_CERT_DIR names it", async (t) => {
    assert.equal(await fetchOnce(t, (trusted) => ({ SSL_CERT_DIR: trusted })), "200");
  });

  it("does not know the CA of a company otherwise", async (t) => {
    assert.equal(await fetchOnce(t, () => ({})), "UNABLE_TO_VERIFY_LEAF_SIGNATURE");
  });
});

describe("a client certificate", () => {
  const { cert, key } = figwasp;
  const pair = { "figwasp.cert": cert, "figwasp.key": key };
  const one = { "figwasp.pem": `${cert}\n${key}` };
  const forms: [string, Files][] = [
    ["*.cert with *.key of its folder, as Docker has them", folderWithoutToml(pair)],
    ["*.cert of its folder alone, where the key is in it", folderWithoutToml({ "figwasp.cert": `${cert}\n${key}` })],
    ["one file in hosts.toml", folder(`ca = "company.crt"\nclient = "figwasp.pem"`, one)],
    ["a list of files in hosts.toml", folder(`ca = "company.crt"\nclient = ["figwasp.pem"]`, one)],
    ["a list of pairs", folder(`ca = "company.crt"\nclient = [["figwasp.cert", "figwasp.key"]]`, pair)],
  ];
  for (const [what, files] of forms) {
    it(`is ${what}`, async (t) => {
      const stub = await serveTls(t, onLoopback, answer, { clientCa: clients.cert });
      await resolveAt(t, stub, files);
      assert.deepEqual(
        stub.requests.map(({ client }) => client),
        ["figwasp"],
      );
    });
  }

  it("is none without one, and a server that wants one refuses", async (t) => {
    const stub = await serveTls(t, onLoopback, answer, { clientCa: clients.cert });
    await assert.rejects(resolveAt(t, stub, folder(`ca = "company.crt"`)));
    assert.equal(stub.requests.length, 0);
  });

  const unreadable: [string, Files, RegExp][] = [
    ["is not there", folder(`client = "gone.pem"`), /hosts\.toml: ENOENT: .*registry\.example\/gone\.pem/],
    [
      "has no key",
      folder(`client = "figwasp.cert"`, pair),
      /hosts\.toml: .*registry\.example\/figwasp\.cert is no certificate with its key in .*\/figwasp\.cert: /,
    ],
    [
      "has another key",
      folder(`client = [["figwasp.cert", "other.key"]]`, { ...pair, "other.key": authority.key }),
      /hosts\.toml: .*registry\.example\/figwasp\.cert is no certificate with its key in .*\/other\.key: /,
    ],
  ];
  for (const [what, files, message] of unreadable) {
    it(`is named where it ${what}`, async (t) => {
      const stub = await serveTls(t, onLoopback, answer);
      await assert.rejects(resolveAt(t, stub, files), (error: Error) => {
        assert.match(error.message, message);
        assert.doesNotMatch(error.message, /PRIVATE|BEGIN/);
        return true;
      });
    });
  }

  it("is not shown to a host to which a redirect leads, not even a port of the same", async (t) => {
    const other = await serveTls(t, onLoopback, answer, { clientCa: clients.cert, isCurious: true });
    const stub = await serveTls(
      t,
      onLoopback,
      (_request, response) => void response.writeHead(307, { location: `https://127.0.0.1:4443/x` }).end(),
      { clientCa: clients.cert },
    );
    const toml = `server = "https://127.0.0.1:4442"\nca = "company.crt"\nclient = "figwasp.pem"`;
    const fetch = leadTo({
      "https://127.0.0.1:4442": `https://${stub.host}`,
      "https://127.0.0.1:4443": `https://${other.host}`,
    });
    await (await openRegistry(t, { files: folder(toml, one), fetch })).resolve(image);
    assert.equal(stub.requests[0]?.client, "figwasp");
    assert.equal(other.requests.length, 1);
    assert.equal(other.requests[0]?.client, undefined);
  });
});

function folderWithoutToml(files: Files): Files {
  const all = { ...files, "ca.crt": authority.cert };
  return Object.fromEntries(Object.entries(all).map(([name, text]) => [`registry.example/${name}`, text]));
}

describe("skip_verify", () => {
  it("asks a host with whatever certificate, and says so in the notes", async (t) => {
    const stub = await serveTls(t, await stranger.issue("evil.example"), answer);
    const registry = await resolveAt(t, stub, folder("skip_verify = true"));
    const [note, ...others] = registry.notes;
    assert.match(
      note ?? "",
      /^the certificate of registry\.example is not verified: .*\/registry\.example\/hosts\.toml says so$/,
    );
    assert.deepEqual(others, []);
  });

  it("changes nothing where it is false", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    await assert.rejects(resolveAt(t, stub, folder("skip_verify = false")), /unable to verify/);
  });

  it("says nothing of the host to which a redirect leads", async (t) => {
    const other = await serveTls(t, await stranger.issue("localhost"), answer);
    const stub = await serveTls(t, onLoopback, (_request, response) => {
      response.writeHead(307, { location: `https://${other.host}/x` }).end();
    });
    const toml = `server = "https://${stub.host}"\nskip_verify = true\nca = "ca.crt"`;
    const files = { [`${stub.host}/hosts.toml`]: toml, [`${stub.host}/ca.crt`]: authority.cert };
    const registry = await openRegistry(t, { files });
    await assert.rejects(registry.resolve(parseReference(`${stub.host}/app`)), /unable to verify/);
    assert.equal(stub.requests.length, 1);
    assert.equal(other.requests.length, 0);
  });

  it("of a mirror says nothing of the registry", async (t) => {
    const mirror = await serveTls(t, onLoopback, (_request, response) => void response.writeHead(404).end());
    const stub = await serveTls(t, onLoopback, answer);
    const toml = `server = "https://${stub.host}"\n[host."https://${mirror.host}"]\nskip_verify = true`;
    const registry = await openRegistry(t, { files: folder(toml) });
    await assert.rejects(registry.resolve(image), /unable to verify/);
    assert.equal(mirror.requests.length, 1);
    assert.equal(stub.requests.length, 0);
  });
});

describe("header", () => {
  it("reaches its host, and no host to which that one leads", async (t) => {
    const other = await serve(t, answer);
    const stub = await serve(t, (_request, response) => {
      response.writeHead(307, { location: `http://${other.host}/x` }).end();
    });
    const toml = `server = "http://${stub.host}"\nheader = { X-Key = "s3cret", X-List = ["a", "b"] }`;
    await (await openRegistry(t, { files: folder(toml) })).resolve(image);
    assert.equal(stub.requests[0]?.headers["x-key"], "s3cret");
    assert.equal(stub.requests[0]?.headers["x-list"], "a, b");
    assert.deepEqual(
      Object.keys(other.requests[0]?.headers ?? {}).filter((name) => name.startsWith("x-")),
      [],
    );
  });

  it("reaches no other host of the same file", async (t) => {
    const mirror = await serve(t, (_request, response) => void response.writeHead(404).end());
    const stub = await serve(t, answer);
    const toml = `server = "http://${stub.host}"\n[host."http://${mirror.host}".header]\nX-Key = "s3cret"`;
    await (await openRegistry(t, { files: folder(toml) })).resolve(image);
    assert.equal(mirror.requests[0]?.headers["x-key"], "s3cret");
    assert.equal(stub.requests[0]?.headers["x-key"], undefined);
  });

  it("does not reach a token server of another host", async (t) => {
    const stub = await serve(t, ({ path, headers }, response) => {
      if (path.startsWith("/token")) return void response.end(JSON.stringify({ token: "t0ken" }));
      if (headers.authorization) return void answer({ path, headers } as never, response);
      response.writeHead(401, { "www-authenticate": `Bearer realm="https://auth.example/token"` }).end();
    });
    const at = `http://${stub.host}`;
    const fetch = leadTo({ "https://registry.example": at, "https://auth.example": at });
    const files = folder(`header = { X-Key = "s3cret" }`);
    await (await openRegistry(t, { files, fetch })).resolve(image);
    assert.deepEqual(
      stub.requests.map(({ headers }) => headers["x-key"]),
      ["s3cret", undefined, "s3cret"],
    );
  });

  it("stands back behind what figwasp itself has to say, however it is written", async (t) => {
    const stub = await serve(t, ({ headers }, response) => {
      const isIn = headers.authorization === `Basic ${btoa("user:right")}`;
      if (!isIn) return void response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end();
      response.writeHead(200, { "docker-content-digest": digestOf("v1") }).end();
    });
    const toml = `server = "http://${stub.host}"\nheader = { Authorization = "Basic eDp5", Accept = "x/y" }`;
    const registry = await openRegistry(t, { files: folder(toml) });
    await registry.resolve(image, keyring);
    assert.equal(stub.requests[0]?.headers.authorization, "Basic eDp5");
    assert.doesNotMatch(stub.requests[0]?.headers.accept ?? "", /x\/y/);
    assert.equal(stub.requests.length, 2);
  });
});

describe("override_path", () => {
  it("gives the credential to no host whose name only begins as the registry's", async (t) => {
    const evil = await serve(t, (_request, response) => {
      response.writeHead(401, { "www-authenticate": 'Basic realm="r"' }).end();
    });
    const stub = await serve(t, (_request, response) => {
      response.writeHead(307, { location: "https://registry.example.evil.example/x" }).end();
    });
    const fetch = leadTo({
      "https://registry.example": `http://${stub.host}`,
      "https://registry.example.evil.example": `http://${evil.host}`,
    });
    const files = folder(`server = "https://registry.example"\noverride_path = true`);
    await assert.rejects((await openRegistry(t, { files, fetch })).resolve(image, keyring), /returned 401/);
    assert.deepEqual(
      evil.requests.map(({ headers }) => headers.authorization),
      [undefined],
    );
  });
});

describe("dial_timeout", { concurrency: true }, () => {
  for (const scheme of ["https", "http"]) {
    it(`ends the attempt to connect over ${scheme}`, async (t) => {
      const toml = `server = "${scheme}://${await serveNobody(t)}"\ndial_timeout = "30ms"`;
      const registry = await openRegistry(t, { files: folder(toml) });
      await assert.rejects(registry.resolve(image), / failed: no connection within 30 ms$/);
    });
  }
});

describe("hosts.toml", () => {
  async function linesOf(t: TestContext, toml: (host: string) => string): Promise<string[]> {
    const stub = await serve(t, answer);
    await (await openRegistry(t, { files: folder(toml(stub.host)) })).resolve(image);
    return stub.requests.map(({ method, path }) => `${method} ${path}`);
  }

  const addresses: [string, (host: string) => string, string][] = [
    ["puts /v2 behind an address", (host) => `server = "http://${host}"`, "/v2/app"],
    ["puts /v2 behind a path", (host) => `server = "http://${host}/a/b/"`, "/a/b/v2/app"],
    ["leaves a path with /v2", (host) => `server = "http://${host}/a/v2"`, "/a/v2/app"],
    ["leaves any path with override_path", (host) => `server = "http://${host}/a"\noverride_path = true`, "/a/app"],
    ["leaves no path with override_path", (host) => `server = "http://${host}"\noverride_path = true`, "/app"],
    ["puts /v2 with override_path = false", (host) => `server = "http://${host}"\noverride_path = false`, "/v2/app"],
  ];
  for (const [what, toml, path] of addresses) {
    it(what, async (t) => {
      assert.deepEqual(await linesOf(t, toml), [`HEAD ${path}/manifests/latest?ns=registry.example`]);
    });
  }

  it("takes an address without a scheme as https", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    const registry = await openRegistry(t, { files: folder(`server = "${stub.host}"\nca = "company.crt"`) });
    assert.equal(await registry.resolve(image), digestOf("v1"));
  });

  it("has the hosts asked in the order of the file, and the server last", async (t) => {
    const asked: string[] = [];
    const deaf = (name: string) =>
      serve(t, (_request, response) => {
        asked.push(name);
        response.writeHead(400).end();
      });
    const [z, a, own] = [await deaf("z"), await deaf("a"), await deaf("own")];
    const toml = `server = "http://${own.host}"\n[host."http://${z.host}"]\n[host."http://${a.host}"]`;
    await assert.rejects((await openRegistry(t, { files: folder(toml) })).resolve(image));
    assert.deepEqual(asked, ["z", "a", "own"]);
  });

  const able = [`["pull", "resolve"]`, `["resolve"]`, `["Resolve"]`, `[]`];
  for (const capabilities of able) {
    it(`has a host asked whose capabilities are ${capabilities}`, async (t) => {
      const toml = (host: string) => `[host."http://${host}"]\ncapabilities = ${capabilities}`;
      assert.equal((await linesOf(t, toml)).length, 1);
    });
  }

  for (const capabilities of [`["pull"]`, `["pull", "push"]`]) {
    it(`has no host asked whose capabilities are ${capabilities}`, async (t) => {
      const other = await serve(t, answer);
      const toml = (host: string) => {
        return `server = "http://${host}"\n[host."http://${other.host}"]\ncapabilities = ${capabilities}`;
      };
      assert.equal((await linesOf(t, toml)).length, 1);
      assert.equal(other.requests.length, 0);
    });
  }

  const wrong: [string, RegExp][] = [
    [`server = 5`, /"server" is not an address$/],
    [`host = "a"`, /"host" is not a table$/],
    [`host.a = 1`, /host "a" is not a table$/],
    [`capabilities = "resolve"`, /"capabilities" of https:\/\/registry\.example\/v2 is not a list of words$/],
    [`capabilities = [1]`, /"capabilities" of .* is not a list of words$/],
    [`ca = 1`, /"ca" of .* is not a file or a list of files$/],
    [`ca = [["a"]]`, /"ca" of .* is not a file or a list of files$/],
    [`client = true`, /"client" of .* is not a file, or a list of files or of pairs of them$/],
    [`client = [1]`, /"client" of .* is not a file/],
    [`client = [["a"]]`, /"client" of .* is not a file/],
    [`client = [["a", "b", "c"]]`, /"client" of .* is not a file/],
    [`skip_verify = "true"`, /"skip_verify" of .* is not true or false$/],
    [`override_path = "true"`, /"override_path" of .* is not true or false$/],
    [`header = "a"`, /"header" of .* is not a table of texts$/],
    [`header = { a = 1 }`, /"header" of .* is not a table of texts$/],
    [`header = { a = [1] }`, /"header" of .* is not a table of texts$/],
    [`dial_timeout = 5`, /"dial_timeout" of .* is not a Go duration$/],
    [`dial_timeout = "5"`, /"dial_timeout" of .* is not a Go duration$/],
    [`dial_timeout = "-1s"`, /"dial_timeout" of .* is not a Go duration$/],
    [`Ca = "company.crt"`, /"Ca" is not a key of containerd's hosts\.toml that figwasp knows$/],
    [`[host."h.example"]\nserver = "a"`, /"server" is not a key of/],
    [`[host."h.example"]\nca = 1`, /"ca" of https:\/\/h\.example\/v2 is not a file or a list of files$/],
    [`[host."h.example"]\ncapabilities = ["pull"]\nca = 1`, /"ca" of .* is not a file/],
  ];
  for (const [toml, message] of wrong) {
    it(`is refused by the name of the key: ${toml.replace("\n", " ")}`, async (t) => {
      const registry = await openRegistry(t, { files: folder(toml), fetch: leadTo({}) });
      await assert.rejects(registry.resolve(image), (error: Error) => {
        assert.match(error.message, /^Cannot use \/.*\/registry\.example\/hosts\.toml: /);
        assert.match(error.message, message);
        return true;
      });
    });
  }
});

describe("the folder of a registry", () => {
  const port = parseReference("registry.example:5000/app");

  async function lineOf(t: TestContext, files: (server: (path: string) => string) => Files, reference = port) {
    const stub = await serve(t, answer);
    const at = `http://${stub.host}`;
    const fetch = leadTo({ [at]: at, "https://registry.example:5000": at, "https://registry.example": at });
    await (await openRegistry(t, { files: files((path) => `server = "${at}/${path}"`), fetch })).resolve(reference);
    return stub.lines()[0];
  }

  it("is HOST_PORT_ before HOST:PORT", async (t) => {
    const line = await lineOf(t, (server) => ({
      "registry.example_5000_/hosts.toml": server("underscores"),
      "registry.example:5000/hosts.toml": server("colon"),
      "_default/hosts.toml": server("default"),
    }));
    assert.equal(line, "HEAD /underscores/v2/app/manifests/latest");
  });

  it("is HOST:PORT before _default", async (t) => {
    const line = await lineOf(t, (server) => ({
      "registry.example:5000/hosts.toml": server("colon"),
      "_default/hosts.toml": server("default"),
    }));
    assert.equal(line, "HEAD /colon/v2/app/manifests/latest");
  });

  it("is not that of the host without its port, nor with another", async (t) => {
    const line = await lineOf(t, (server) => ({
      "registry.example/hosts.toml": server("no-port"),
      "registry.example:500/hosts.toml": server("other-port"),
      "_default/hosts.toml": server("default"),
    }));
    assert.equal(line, "HEAD /default/v2/app/manifests/latest");
  });

  it("counts where it holds nothing: the registry itself is asked, and _default is not looked at", async (t) => {
    const line = await lineOf(t, (server) => ({
      "registry.example:5000/README": "nothing of use",
      "_default/hosts.toml": server("default"),
    }));
    assert.equal(line, "HEAD /v2/app/manifests/latest");
  });

  it("is none where nothing is configured", async (t) => {
    assert.equal(await lineOf(t, () => ({})), "HEAD /v2/app/manifests/latest");
  });

  it("has the CA of _default trusted for every registry without a folder", async (t) => {
    const stub = await serveTls(t, onLoopback, answer);
    await resolveAt(t, stub, { "_default/ca.crt": authority.cert });
    await assert.rejects(
      resolveAt(t, stub, { "_default/ca.crt": authority.cert, "registry.example/README": "" }),
      /unable to verify/,
    );
  });
});

describe("a proxy", () => {
  const tls = folderWithoutToml({});

  it("is given by HTTPS_PROXY for a registry that speaks https, whose CA counts all the same", async (t) => {
    const stub = await serveTls(t, await authority.issue("registry.example"), answer);
    const proxy = await serveProxy(t, { stub: stub.host });
    const registry = await openRegistry(t, { files: tls, proxies: { httpsProxy: `http://${proxy.host}` } });
    assert.equal(await registry.resolve(image), digestOf("v1"));
    assert.deepEqual(proxy.lines, ["CONNECT registry.example:443"]);
    assert.equal(stub.requests.length, 1);
  });

  it("does not make a certificate right", async (t) => {
    const stub = await serveTls(t, await authority.issue("evil.example"), answer);
    const proxy = await serveProxy(t, { stub: stub.host });
    const proxies = { httpsProxy: `http://${proxy.host}` };
    await assert.rejects((await openRegistry(t, { files: tls, proxies })).resolve(image), /does not match/);
    await assert.rejects((await openRegistry(t, { proxies })).resolve(image), /unable to verify/);
    assert.equal(stub.requests.length, 0);
  });

  it("has a client certificate led through it", async (t) => {
    const certificate = await authority.issue("registry.example");
    const stub = await serveTls(t, certificate, answer, { clientCa: clients.cert });
    const proxy = await serveProxy(t, { stub: stub.host });
    const files = folderWithoutToml({ "figwasp.cert": figwasp.cert, "figwasp.key": figwasp.key });
    const registry = await openRegistry(t, { files, proxies: { httpsProxy: `http://${proxy.host}` } });
    assert.equal(await registry.resolve(image), digestOf("v1"));
    assert.equal(stub.requests[0]?.client, "figwasp");
  });

  it("is given by HTTP_PROXY for a registry that speaks plain http", async (t) => {
    const proxy = await serveProxy(t, {});
    const files = folder(`server = "http://plain.example:5000"`);
    await (await openRegistry(t, { files, proxies: { httpProxy: `http://${proxy.host}` } })).resolve(image);
    assert.deepEqual(proxy.lines, ["HEAD http://plain.example:5000/v2/app/manifests/latest?ns=registry.example"]);
  });

  it("of one scheme is none for the other", async (t) => {
    const [plain, secure] = [await serve(t, answer), await serveTls(t, onLoopback, answer)];
    const proxy = await serveProxy(t, {});
    const at = `http://${proxy.host}`;
    const toPlain = folder(`server = "http://${plain.host}"`);
    await (await openRegistry(t, { files: toPlain, proxies: { httpsProxy: at } })).resolve(image);
    const toSecure = folder(`server = "https://${secure.host}"\nca = "company.crt"`);
    await (await openRegistry(t, { files: toSecure, proxies: { httpProxy: at } })).resolve(image);
    assert.deepEqual(proxy.lines, []);
  });

  it("is left out for what NO_PROXY names", async (t) => {
    const [plain, secure] = [await serve(t, answer), await serveTls(t, onLoopback, answer)];
    const proxy = await serveProxy(t, {});
    const proxies = {
      httpProxy: `http://${proxy.host}`,
      httpsProxy: `http://${proxy.host}`,
      noProxy: "a.example,127.0.0.1",
    };
    await (await openRegistry(t, { files: folder(`server = "http://${plain.host}"`), proxies })).resolve(image);
    const toSecure = folder(`server = "https://${secure.host}"\nca = "company.crt"`);
    await (await openRegistry(t, { files: toSecure, proxies })).resolve(image);
    assert.deepEqual(proxy.lines, []);
  });

  const passedBy: [string, string, boolean][] = [
    ["127.0.0.1", "127.0.0.1", true],
    ["127.0.0.0/8", "127.0.0.1", true],
    ["10.0.0.0/8,127.0.0.1/32", "127.0.0.1", true],
    ["126.0.0.0/8 128.0.0.0/1", "127.0.0.1", false],
    ["a.invalid, b.invalid", "b.invalid", true],
    ["b.invalid", "r.b.invalid", true],
    [".b.invalid", "r.b.invalid", true],
    ["b.invalid", "rb.invalid", false],
    ["*", "b.invalid", true],
    ["", "b.invalid", false],
  ];
  for (const [noProxy, host, isPassedBy] of passedBy) {
    it(`is ${isPassedBy ? "passed by" : "asked"} for ${host} by NO_PROXY=${noProxy}, as Go and curl read it`, async (t) => {
      const proxy = await serveProxy(t, {});
      const files = folder(`server = "http://${host}:4"`);
      const registry = await openRegistry(t, { files, proxies: { httpProxy: `http://${proxy.host}`, noProxy } });
      await registry.resolve(image).catch(() => undefined);
      assert.equal(proxy.lines.length === 0, isPassedBy);
    });
  }

  it("that takes a connection and never answers is given up at the deadline", { timeout: 10_000 }, async (t) => {
    const sockets = new Set<Socket>();
    const server = createServer((socket) => void sockets.add(socket));
    t.after(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    const proxies = { httpsProxy: `http://${await listen(server)}` };
    const registry = await openRegistry(t, { proxies, timeoutMs: 200 });
    await assert.rejects(registry.resolve(image), /gave no answer within 0\.2 s$/);
  });

  it("gets its own credential, and the registry does not", async (t) => {
    const stub = await serveTls(t, await authority.issue("registry.example"), answer);
    const proxy = await serveProxy(t, { stub: stub.host });
    const registry = await openRegistry(t, { files: tls, proxies: { httpsProxy: `http://me:s3cret@${proxy.host}` } });
    await registry.resolve(image);
    assert.deepEqual(proxy.authorizations, [`Basic ${btoa("me:s3cret")}`]);
    assert.equal(stub.requests[0]?.headers["proxy-authorization"], undefined);
  });

  for (const status of [407, 502]) {
    for (const scheme of ["https", "http"]) {
      it(`that answers ${status} over ${scheme} is told without its credential`, async (t) => {
        const proxy = await serveProxy(t, { status });
        const at = `http://me:s3cret@${proxy.host}`;
        const files = folder(`server = "${scheme}://registry.example"`);
        const registry = await openRegistry(t, { files, proxies: { httpsProxy: at, httpProxy: at } });
        await assert.rejects(registry.resolve(image), (error: Error) => {
          assert.match(error.message, new RegExp(`^HEAD ${scheme}://registry.example/v2/.*${status}`));
          assert.doesNotMatch(inspect(error, { depth: 9 }), new RegExp(`s3cret|${btoa("me:s3cret")}`));
          return true;
        });
      });
    }
  }

  it("that is not there is told without its credential", async (t) => {
    const registry = await openRegistry(t, { proxies: { httpsProxy: "http://me:s3cret@127.0.0.1:4" } });
    await assert.rejects(registry.resolve(image), (error: Error) => {
      assert.match(error.message, /^HEAD https:\/\/registry\.example\/v2\/.* ECONNREFUSED 127\.0\.0\.1:4$/);
      assert.doesNotMatch(inspect(error, { depth: 9 }), /s3cret/);
      return true;
    });
  });
});
