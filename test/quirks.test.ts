/** How widely used registries differ from the specifications and from each other. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import { behind, digest, giving, holding, refusing, routes } from "./support/doors.ts";
import { serveInternet } from "./support/internet.ts";
import { keyringOf, type Login, plant, plantToken } from "./support/leaks.ts";
import { digestOf, noKeys, openRegistry } from "./support/registry.ts";
import type { Answer } from "./support/serve.ts";
import { newAuthority, serveTls } from "./support/tls.ts";

/** What a profile can use for its servers. */
interface Given {
  login: Login;
  /** The Authorization header that the registry expects: that of the login, or that of the token. */
  authorization: string;
  token: string;
}

interface Profile {
  image: string;
  /** The hosts that may receive `login`, the registry first. Its key in the Secret is the first host, or `key`. */
  seenBy?: string[];
  key?: string;
  user?: string;
  password?: string;
  servers: (given: Given) => Record<string, Answer>;
  /** The expected requests as `NAME METHOD /path`. With `isRunningAnother` they include a manifest by its digest. */
  lines: string[];
  isRunningAnother?: true;
  /** The expected result; the digest by default. */
  said?: RegExp;
  note?: string;
}

// HEAD, token, HEAD: the requests to every registry with a token server.
const withToken = (registry: string, path: string, tokenServer: string) => [
  `${registry} HEAD /v2/${path}/manifests/latest`,
  tokenServer,
  `${registry} HEAD /v2/${path}/manifests/latest`,
];
const withPassword = (registry: string, path: string) => [
  `${registry} HEAD /v2/${path}/manifests/latest`,
  `${registry} HEAD /v2/${path}/manifests/latest`,
];
const withHeaders = (headers: Record<string, string>, answer: Answer): Answer => {
  return (request, response) => {
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    return answer(request, response);
  };
};
/** A token server that answers POST with this status, as the real one does. */
const noPost = (status: number, answer: Answer): Answer => routes({ "POST /": refusing(status), "/": answer });

const hub = {
  "ratelimit-limit": "100;w=21600",
  "ratelimit-remaining": "76;w=21600",
  "docker-ratelimit-source": "192.0.2.9",
};
const hubChallenge =
  'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/nginx:pull"';
const hubToken = withToken("registry-1.docker.io", "library/nginx", "auth.docker.io GET /token");
const hubQuota = "registry-1.docker.io: 76 of 100 remain of its rate limit, per 6 h";
const ecr = "123456789012.dkr.ecr.eu-west-1.amazonaws.com";
const ecrChallenge = `Basic realm="https://${ecr}/",service="ecr.amazonaws.com"`;
const acr = "shop.azurecr.io";
const gar = "europe-docker.pkg.dev";
const jsonKey = `{\n  "type": "service_account",\n  "private_key_id": "4c1f0a",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\nMIIEvQ+/=\\n"\n}\n`;
const ocir = "fra.ocir.io";
const front = "registry.k8s.io";
const back = "europe-west3-docker.pkg.dev";

const profiles: Record<string, Profile> = {
  "Docker Hub, to anybody: library/ in front, a token server elsewhere, and the quota on each answer": {
    image: "nginx",
    servers: ({ token, authorization }) => ({
      "registry-1.docker.io": withHeaders(hub, behind(hubChallenge, [authorization])),
      "auth.docker.io": giving({ "": token }),
    }),
    lines: hubToken,
    note: hubQuota,
  },
  "Docker Hub, with a login, which its token server gets": {
    image: "nginx",
    key: "https://index.docker.io/v1/",
    seenBy: ["auth.docker.io"],
    servers: ({ token, login, authorization }) => ({
      "registry-1.docker.io": withHeaders(hub, behind(hubChallenge, [authorization])),
      "auth.docker.io": giving({ [login.authorization]: token }),
    }),
    lines: hubToken,
    note: hubQuota,
  },
  "Docker Hub, where a tag is not there: no GET, which it would count": {
    image: "nginx",
    servers: ({ token, authorization }) => ({
      "registry-1.docker.io": withHeaders(
        hub,
        behind(hubChallenge, [authorization], refusing(404, "MANIFEST_UNKNOWN: no")),
      ),
      "auth.docker.io": giving({ "": token }),
    }),
    lines: hubToken,
    note: hubQuota,
    said: /HEAD https:\/\/registry-1.docker.io\/v2\/library\/nginx\/manifests\/latest returned 404 Not Found$/,
  },
  "Docker Hub, whose pulls are used up": {
    image: "nginx",
    servers: ({ token, authorization }) => ({
      "registry-1.docker.io": behind(
        hubChallenge,
        [authorization],
        refusing(429, "TOOMANYREQUESTS: You have reached your pull rate limit.", {
          ...hub,
          "ratelimit-remaining": "0;w=21600",
        }),
      ),
      "auth.docker.io": giving({ "": token }),
    }),
    lines: hubToken,
    said: /: registry-1.docker.io answered 429 Too Many Requests; it is not asked again in this run$/,
    note: "registry-1.docker.io: 0 of 100 remain of its rate limit, per 6 h",
  },
  "Docker Hub, which finds an address abusive: 429 without a word, before any challenge": {
    image: "nginx",
    servers: () => ({ "registry-1.docker.io": refusing(429, "", { "retry-after": "37" }) }),
    lines: hubToken.slice(0, 1),
    said: /answered 429 Too Many Requests, to be asked again in 37 s; it is not asked again in this run$/,
  },
  "Docker Hub, whose token server finds an account abusive": {
    image: "nginx",
    key: "docker.io",
    seenBy: ["auth.docker.io"],
    servers: () => ({
      "registry-1.docker.io": behind(hubChallenge, []),
      "auth.docker.io": refusing(429, "TOOMANYREQUESTS: too many failed login attempts for username or IP address"),
    }),
    lines: hubToken.slice(0, 2),
    said: /: auth.docker.io answered 429 Too Many Requests; it is not asked again in this run$/,
  },
  "GHCR, which wants a token for what anybody may pull": {
    image: "ghcr.io/acme/api",
    servers: ({ token, authorization }) => ({
      "ghcr.io": routes({
        "/token": giving({ "": token }),
        "/v2/": behind('Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:acme/api:pull"', [
          authorization,
        ]),
      }),
    }),
    lines: withToken("ghcr.io", "acme/api", "ghcr.io GET /token"),
  },
  "GHCR, whose 429 tells a time in its own way": {
    image: "ghcr.io/acme/api",
    servers: () => ({ "ghcr.io": refusing(429, "TOOMANYREQUESTS: retry-after: 331.163µs, allowed: 44000/minute") }),
    lines: ["ghcr.io HEAD /v2/acme/api/manifests/latest"],
    said: /: ghcr.io answered 429 Too Many Requests; it is not asked again in this run$/,
  },
  "GHCR, where nobody in particular may not pull": {
    image: "ghcr.io/acme/api",
    servers: () => ({
      "ghcr.io": routes({
        "/token": refusing(403, "DENIED: requested access to the resource is denied"),
        "/v2/": behind('Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:acme/api:pull"', []),
      }),
    }),
    lines: withToken("ghcr.io", "acme/api", "ghcr.io GET /token").slice(0, 2),
    said: /403 Forbidden \(DENIED: .*\), the registry asks for a credential, and the pods name no pull Secret$/,
  },
  "GitLab.com, whose token server has another host and path": {
    image: "registry.gitlab.com/group/app",
    key: "registry.gitlab.com",
    seenBy: ["gitlab.com"],
    servers: ({ token, login, authorization }) => ({
      "registry.gitlab.com": behind('Bearer realm="https://gitlab.com/jwt/auth",service="container_registry"', [
        authorization,
      ]),
      "gitlab.com": routes({ "/jwt/auth?service=container_registry&": giving({ [login.authorization]: token }) }),
    }),
    lines: withToken("registry.gitlab.com", "group/app", "gitlab.com GET /jwt/auth"),
  },
  "a GitLab of one's own, beside its registry": {
    image: "registry.example.org/group/app",
    key: "registry.example.org",
    seenBy: ["gitlab.example.org"],
    servers: ({ token, login, authorization }) => ({
      "registry.example.org": behind(
        'Bearer realm="https://gitlab.example.org/jwt/auth",service="container_registry"',
        [authorization],
      ),
      "gitlab.example.org": giving({ [login.authorization]: token }),
    }),
    lines: withToken("registry.example.org", "group/app", "gitlab.example.org GET /jwt/auth"),
  },
  "ECR, private: Basic for AWS, and a digest with HEAD only": {
    image: `${ecr}/shop/app`,
    seenBy: [ecr],
    user: "AWS",
    servers: ({ login }) => ({
      [ecr]: behind(ecrChallenge, [login.authorization], holding({ withoutDigest: ["GET"] })),
    }),
    isRunningAnother: true,
    lines: [
      ...withPassword(ecr, "shop/app"),
      `${ecr} GET /v2/shop/app/manifests/${digest}`,
      `${ecr} GET /v2/shop/app/manifests/${digestOf("another")}`,
    ],
  },
  "ECR, private, after the twelve hours of its credential": {
    image: `${ecr}/shop/app`,
    seenBy: [ecr],
    user: "AWS",
    servers: ({ login }) => ({
      [ecr]: behind(
        ecrChallenge,
        [login.authorization],
        refusing(403, "DENIED: Your authorization token has expired. Reauthenticate and try again."),
      ),
    }),
    lines: [
      ...withPassword(ecr, "shop/app"),
      `${ecr} GET /v2/shop/app/manifests/latest`,
      `${ecr} GET /v2/shop/app/manifests/latest`,
    ],
    said: /403 Forbidden \(DENIED: Your authorization token has expired. Reauthenticate and try again.\), refused with key "123456789012.dkr.ecr.eu-west-1.amazonaws.com" of Secret shop\/pull-1$/,
  },
  "ECR, private, where only the nodes have a credential": {
    image: `${ecr}/shop/app`,
    servers: () => ({ [ecr]: behind(ecrChallenge, []) }),
    lines: withPassword(ecr, "shop/app").slice(0, 1),
    said: /the registry asks for a credential, and the pods name no pull Secret; where nodes pull with a credential of their own, mount a docker config/,
  },
  "ECR, public: a token server of its own, and no digest header": {
    image: "public.ecr.aws/acme/app",
    servers: ({ token, authorization }) => ({
      "public.ecr.aws": routes({
        "/token/": giving({ "": token }),
        "/v2/": behind(
          'Bearer realm="https://public.ecr.aws/token/",service="public.ecr.aws",scope="aws"',
          [authorization],
          holding({ withoutDigest: ["HEAD", "GET"] }),
        ),
      }),
    }),
    lines: [
      ...withToken("public.ecr.aws", "acme/app", "public.ecr.aws GET /token/"),
      "public.ecr.aws GET /v2/acme/app/manifests/latest",
    ],
  },
  "ACR: access_token, and 400 to what it does not know by POST": {
    image: `${acr}/app`,
    seenBy: [acr],
    user: "00000000-0000-0000-0000-000000000000",
    servers: ({ token, login, authorization }) => ({
      [acr]: routes({
        "/oauth2/token": noPost(400, giving({ [login.authorization]: token }, "access_token")),
        "/v2/": behind(`Bearer realm="https://${acr}/oauth2/token",service="${acr}",scope="repository:app:pull"`, [
          authorization,
        ]),
      }),
    }),
    lines: withToken(acr, "app", `${acr} GET /oauth2/token`),
  },
  "Artifact Registry: a JSON text of several lines as password, and 404 to a POST": {
    image: `${gar}/project/repo/app`,
    seenBy: [gar],
    user: "_json_key",
    password: jsonKey,
    servers: ({ token, login, authorization }) => ({
      [gar]: routes({
        "/v2/token": noPost(404, giving({ [login.authorization]: token })),
        "/v2/": behind(`Bearer realm="https://${gar}/v2/token",service="${gar}"`, [authorization]),
      }),
    }),
    lines: withToken(gar, "project/repo/app", `${gar} GET /v2/token`),
  },
  "GCR, to nobody in particular: a token, and then 403": {
    image: "gcr.io/project/app",
    servers: ({ token, authorization }) => ({
      "gcr.io": routes({
        "/v2/token": giving({ "": token }),
        "/v2/": behind(
          'Bearer realm="https://gcr.io/v2/token",service="gcr.io"',
          [authorization],
          refusing(403, "DENIED: Unauthenticated request."),
        ),
      }),
    }),
    lines: [
      ...withToken("gcr.io", "project/app", "gcr.io GET /v2/token"),
      "gcr.io GET /v2/project/app/manifests/latest",
      "gcr.io GET /v2/project/app/manifests/latest",
    ],
    said: /403 Forbidden \(DENIED: Unauthenticated request.\), no credential of a pull Secret was sent, and the pods name no pull Secret; where nodes pull with a credential of their own,/,
  },
  "registry.k8s.io, which leads to a registry that wants a token of its own": {
    image: `${front}/pause`,
    servers: ({ token, authorization }) => ({
      [front]: (request, response) => {
        const location = `https://${back}${request.path.replace("/v2/", "/v2/k8s-artifacts-prod/images/")}`;
        return refusing(307, "", { location })(request, response);
      },
      [back]: routes({
        "/v2/token": giving({ "": token }),
        "/v2/": behind(`Bearer realm="https://${back}/v2/token",service="${back}"`, [authorization]),
      }),
    }),
    lines: [
      `${front} HEAD /v2/pause/manifests/latest`,
      `${back} HEAD /v2/k8s-artifacts-prod/images/pause/manifests/latest`,
      `${back} GET /v2/token`,
      `${back} HEAD /v2/k8s-artifacts-prod/images/pause/manifests/latest`,
    ],
  },
  "Red Hat: no digest with HEAD": {
    image: "registry.redhat.io/ubi9/ubi",
    key: "registry.redhat.io",
    seenBy: ["registry.redhat.io"],
    user: "7271256|robot",
    servers: ({ token, login, authorization }) => ({
      "registry.redhat.io": routes({
        "/auth/realms/rhcc/": giving({ [login.authorization]: token }),
        "/v2/": behind(
          'Bearer realm="https://registry.redhat.io/auth/realms/rhcc/protocol/redhat-docker-v2/auth",service="docker-registry"',
          [authorization],
          holding({ withoutDigest: ["HEAD"] }),
        ),
      }),
    }),
    lines: [
      ...withToken(
        "registry.redhat.io",
        "ubi9/ubi",
        "registry.redhat.io GET /auth/realms/rhcc/protocol/redhat-docker-v2/auth",
      ),
      "registry.redhat.io GET /v2/ubi9/ubi/manifests/latest",
    ],
  },
  "Quay, with a robot": {
    image: "quay.io/acme/app",
    key: "quay.io",
    seenBy: ["quay.io"],
    user: "acme+robot",
    servers: ({ token, login, authorization }) => ({
      "quay.io": routes({
        "/v2/auth": giving({ [login.authorization]: token }),
        "/v2/": behind('Bearer realm="https://quay.io/v2/auth",service="quay.io",scope="repository:acme/app:pull"', [
          authorization,
        ]),
      }),
    }),
    lines: withToken("quay.io", "acme/app", "quay.io GET /v2/auth"),
  },
  "Artifactory: no scope with HEAD, and 401 to a POST": {
    image: "acme.jfrog.io/docker-local/app",
    key: "acme.jfrog.io",
    seenBy: ["acme.jfrog.io"],
    servers: ({ token, login, authorization }) => ({
      "acme.jfrog.io": routes({
        "/v2/token?service=acme.jfrog.io&scope=repository%3Adocker-local%2Fapp%3Apull": noPost(
          401,
          giving({ [login.authorization]: token }),
        ),
        "/v2/": behind('Bearer realm="https://acme.jfrog.io/v2/token",service="acme.jfrog.io"', [authorization]),
      }),
    }),
    lines: withToken("acme.jfrog.io", "docker-local/app", "acme.jfrog.io GET /v2/token"),
  },
  "Nexus: a port for each repository, Basic, 404 to HEAD, and no digest header": {
    image: "nexus.example.org:8083/app",
    key: "nexus.example.org:8083",
    seenBy: ["nexus.example.org:8083"],
    servers: ({ login }) => ({
      "nexus.example.org:8083": behind(
        'Basic realm="Sonatype Nexus Repository Manager"',
        [login.authorization],
        routes({ "HEAD /": refusing(404), "/": holding({ withoutDigest: ["GET"] }) }),
      ),
    }),
    lines: [
      ...withPassword("nexus.example.org:8083", "app"),
      "nexus.example.org:8083 GET /v2/app/manifests/latest",
      "nexus.example.org:8083 GET /v2/app/manifests/latest",
    ],
  },
  "nvcr.io, whose token server has another name": {
    image: "nvcr.io/nvidia/cuda",
    key: "nvcr.io",
    seenBy: ["authn.nvidia.com"],
    user: "$oauthtoken",
    servers: ({ token, login, authorization }) => ({
      "nvcr.io": behind(
        'Bearer realm="https://authn.nvidia.com/token?service=registry",scope="repository:nvidia/cuda:pull"',
        [authorization],
      ),
      "authn.nvidia.com": giving({ [login.authorization]: token }),
    }),
    lines: withToken("nvcr.io", "nvidia/cuda", "authn.nvidia.com GET /token"),
  },
  "lscr.io, whose token server is GHCR's": {
    image: "lscr.io/linuxserver/app",
    key: "lscr.io",
    seenBy: ["ghcr.io"],
    servers: ({ token, login, authorization }) => ({
      "lscr.io": behind(
        'Bearer realm="https://ghcr.io/token",service="ghcr.io",scope="repository:linuxserver/app:pull"',
        [authorization],
      ),
      "ghcr.io": giving({ [login.authorization]: token }),
    }),
    lines: withToken("lscr.io", "linuxserver/app", "ghcr.io GET /token"),
  },
  "docker.elastic.co: a token server of another name, and access_token alone": {
    image: "docker.elastic.co/kibana/kibana",
    servers: ({ token, authorization }) => ({
      "docker.elastic.co": behind('Bearer realm="https://docker-auth.elastic.co/auth",service="token-service"', [
        authorization,
      ]),
      "docker-auth.elastic.co": giving({ "": token }, "access_token"),
    }),
    lines: withToken("docker.elastic.co", "kibana/kibana", "docker-auth.elastic.co GET /auth"),
  },
  "Oracle: a token server of its own, and an empty scope": {
    image: `${ocir}/tenancy/app`,
    seenBy: [ocir],
    user: "tenancy/oracleidentitycloudservice/jane@example.org",
    servers: ({ token, login, authorization }) => ({
      [ocir]: routes({
        "/20180419/docker/token?service=fra.ocir.io&scope=repository%3Atenancy%2Fapp%3Apull": giving({
          [login.authorization]: token,
        }),
        "/v2/": behind(`Bearer realm="https://${ocir}/20180419/docker/token",service="${ocir}",scope=""`, [
          authorization,
        ]),
      }),
    }),
    lines: withToken(ocir, "tenancy/app", `${ocir} GET /20180419/docker/token`),
  },
  "distribution with htpasswd": {
    image: "registry.example.org/app",
    seenBy: ["registry.example.org"],
    servers: ({ login }) => ({ "registry.example.org": behind('Basic realm="Registry Realm"', [login.authorization]) }),
    lines: withPassword("registry.example.org", "app"),
  },
  "distribution with a token server": {
    image: "registry.example.org/app",
    key: "registry.example.org",
    seenBy: ["registry.example.org:5001"],
    servers: ({ token, login, authorization }) => ({
      "registry.example.org": behind(
        'Bearer realm="https://registry.example.org:5001/auth",service="My registry",scope="repository:app:pull"',
        [authorization],
      ),
      "registry.example.org:5001": giving({ [login.authorization]: token }),
    }),
    lines: withToken("registry.example.org", "app", "registry.example.org:5001 GET /auth"),
  },
};

describe("figwasp asks the registries as they are", () => {
  for (const [what, profile] of Object.entries(profiles)) {
    it(what, async (t) => {
      const {
        image,
        user,
        password,
        seenBy = [],
        servers,
        isRunningAnother,
        said = new RegExp(`^${digest}$`),
      } = profile;
      const login = plant(t, { ...(user && { user }), ...(password && { password }) }, ...seenBy);
      const token = plantToken(t, ...Object.keys(servers({ login, token: "", authorization: "" })));
      const internet = await serveInternet(t, servers({ login, token, authorization: `Bearer ${token}` }));
      const figwasp = await openRegistry(t, { fetch: internet.fetch });
      const key = profile.key ?? image.split("/")[0] ?? "";
      const keyring = seenBy.length > 0 ? keyringOf([key, login]) : noKeys;
      const running = isRunningAnother
        ? [{ kind: "digest" as const, digest: digestOf("another"), isImageId: false }]
        : [];

      assert.match(await figwasp.ask(image, keyring, running), said);
      assert.deepEqual(internet.lines, profile.lines);
      assert.deepEqual(figwasp.notes, profile.note === undefined ? [] : [profile.note]);
    });
  }

  it("Harbor: a robot, and a token server on the registry's own private address with a CA of its own", async (t) => {
    const authority = await newAuthority("Harbor's own CA");
    let door: Answer = refusing(500);
    const stub = await serveTls(t, await authority.issue("localhost"), (request, response) => door(request, response));
    const login = plant(t, { user: "robot$shop+puller" }, stub);
    const token = plantToken(t, stub);
    door = routes({
      "/service/token": giving({ [login.authorization]: token }),
      "/v2/": behind(`Bearer realm="https://${stub.host}/service/token",service="harbor-registry"`, [
        `Bearer ${token}`,
      ]),
    });
    const files = {
      "registry.corp/hosts.toml": `server = "https://${stub.host}"\nca = "ca.crt"`,
      "registry.corp/ca.crt": authority.cert,
    };
    const figwasp = await openRegistry(t, { files });
    assert.equal(await figwasp.ask("registry.corp/shop/app", keyringOf(["registry.corp", login])), digest);
    const lines = ["HEAD /v2/shop/app/manifests/latest", "GET /service/token", "HEAD /v2/shop/app/manifests/latest"];
    assert.deepEqual(stub.lines(), lines);
  });

  it("Artifactory, which locks accounts: a wrong password is sent once, whatever the number of images", async (t) => {
    const host = "acme.jfrog.io";
    const login = plant(t, {}, host);
    const token = refusing(401, "UNAUTHORIZED: Wrong username was used");
    const internet = await serveInternet(t, {
      [host]: routes({ "/v2/token": token, "/v2/": behind(`Bearer realm="https://${host}/v2/token"`, []) }),
    });
    const figwasp = await openRegistry(t, { fetch: internet.fetch });
    await Promise.all(["a", "b", "c", "d"].map((name) => figwasp.ask(`${host}/${name}`, keyringOf([host, login]))));
    assert.equal(internet.lines.filter((line) => line.endsWith("GET /v2/token")).length, 1);
  });

  // Spegel and pull-through caches are set in hosts.toml, as mirrors of the registry.
  const mirrored = {
    "docker.io/hosts.toml": '[host."https://mirror.example.org"]\ncapabilities = ["pull", "resolve"]',
  };
  const mirror = "mirror.example.org";

  async function askMirror(t: TestContext, servers: Record<string, Answer>, ...logins: [string, Login][]) {
    const internet = await serveInternet(t, servers);
    const figwasp = await openRegistry(t, { fetch: internet.fetch, files: mirrored });
    return { said: await figwasp.ask("nginx", keyringOf(...logins)), internet };
  }

  it("a mirror, which is told the registry, and needs no credential", async (t) => {
    const { said, internet } = await askMirror(t, { [mirror]: holding() }, ["docker.io", plant(t)]);
    assert.equal(said, digest);
    const path = "/v2/library/nginx/manifests/latest?ns=docker.io";
    assert.deepEqual(
      internet.at(mirror).requests.map((request) => [request.path, request.headers.authorization]),
      [[path, undefined]],
    );
  });

  it("a mirror that asks for a credential gets its own, never the registry's", async (t) => {
    const own = plant(t, {}, mirror);
    const servers = { [mirror]: behind('Basic realm="mirror"', [own.authorization]) };
    const { said, internet } = await askMirror(t, servers, ["docker.io", plant(t)], [mirror, own], ["*.io", plant(t)]);
    assert.equal(said, digest);
    assert.deepEqual(internet.authorizations, ["", own.authorization]);
  });

  it("a mirror that asks for a credential which it has not is passed over", async (t) => {
    const login = plant(t, {}, "auth.docker.io");
    const token = plantToken(t, "registry-1.docker.io", "auth.docker.io");
    const { said, internet } = await askMirror(
      t,
      {
        [mirror]: behind('Basic realm="mirror"', []),
        "registry-1.docker.io": behind(hubChallenge, [`Bearer ${token}`]),
        "auth.docker.io": giving({ [login.authorization]: token }),
      },
      ["docker.io", login],
    );
    assert.equal(said, digest);
    assert.deepEqual(internet.lines, [`${mirror} HEAD /v2/library/nginx/manifests/latest`, ...hubToken]);
  });

  it("a mirror that leads to the registry's token server gets nothing of the registry's", async (t) => {
    const servers = {
      [mirror]: behind(hubChallenge, []),
      "registry-1.docker.io": holding(),
      "auth.docker.io": giving({}),
    };
    const { said, internet } = await askMirror(t, servers, ["docker.io", plant(t)]);
    assert.equal(said, digest);
    assert(internet.authorizations.every((authorization) => authorization === ""));
  });
});
