/**
 * Checks an address before figwasp follows it because a server said so: the target of a redirect, or the realm of a
 * challenge. Without these checks a server on the internet could make figwasp send requests into the cluster's network
 * (server-side request forgery).
 */
import { BlockList, isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Parses an address that a server gave, relative to the URL that it gave it for: http or https, without a user name,
 *  and without characters that another URL parser might read differently. Throws Error, whose message begins with
 *  `what` and never shows the address, since that may hold a password or a signature. */
export function parseAddress(text: string, base: string, what: string): URL {
  // eslint-disable-next-line no-control-regex -- control characters are what is refused here
  const isMalformed = /[\u0000-\u0020\u007f\\]/.test(text) || !URL.canParse(text, base);
  if (isMalformed) throw new Error(`${what} is not a URL`);
  if (/^[^?#]*@/.test(text)) throw new Error(`${what} holds a user name`);
  const url = new URL(text, base);
  if (!/^https?:$/.test(url.protocol)) throw new Error(`${what} is neither https nor http`);
  return url;
}

/** From which machines an address can be reached. */
type Reach = "public" | "private" | "loopback" | "link-local";

const reachesFromWidest: Reach[] = ["public", "private", "loopback", "link-local"];

// Checked in this order, since some of the first list's addresses lie in private networks.
const networks: [Reach, string[]][] = [
  [
    "link-local",
    // After the two link-local networks: the addresses at which clouds hand a node's credentials to any process on it.
    // AWS over IPv6, Alibaba, Azure, Oracle, and any of them through NAT64.
    [
      "169.254.0.0/16",
      "fe80::/10",
      "fd00:ec2::254/128",
      "100.100.100.200/32",
      "168.63.129.16/32",
      "192.0.0.192/32",
      "64:ff9b::a9fe:0/112",
    ],
  ],
  ["loopback", ["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"]],
  ["private", ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"]],
];

const lookupTimeoutMs = 3000;
let blockLists: [Reach, BlockList][] | undefined;

/** Refuses that a server at one host leads figwasp to another host that fewer machines can reach: from the internet
 *  into a private network, or from there to loopback. Link-local is refused from anywhere, since clouds serve
 *  credentials there. A registry on a private address may have its token server on one too
 *  (mesosphere/mindthegap#1046). Hosts are names or IP addresses without a port. Throws Error, whose message begins
 *  with `what`. */
export async function refuseInward(fromHost: string, toHost: string, what: string): Promise<void> {
  const [from, to] = await Promise.all([reachOf(fromHost), reachOf(toHost)]);
  const isInward = reachesFromWidest.indexOf(to) > reachesFromWidest.indexOf(from);
  if (isInward || to === "link-local") throw new Error(`${what} leads to a ${to} address`);
}

// A name with several addresses counts as the one that fewest machines can reach. A name that cannot be resolved here
// counts as public: a proxy will resolve it, and figwasp itself cannot connect to it.
async function reachOf(host: string): Promise<Reach> {
  const name = host.replace(/^\[|\]$|\.$/g, "").toLowerCase();
  if (/^metadata(?:\.google\.internal)?$/.test(name)) return "link-local";
  const addresses = isIP(name) ? [name] : await Promise.race([resolveName(name), noneAfterTimeout()]);
  const ranks = addresses.map((address) => reachesFromWidest.indexOf(reachOfAddress(address)));
  return reachesFromWidest[Math.max(0, ...ranks)] ?? "public";
}

async function resolveName(name: string): Promise<string[]> {
  const { lookup } = await import("node:dns/promises");
  const records = await lookup(name, { all: true }).catch(() => []);
  return records.map(({ address }) => address);
}

function noneAfterTimeout(): Promise<string[]> {
  return sleep(lookupTimeoutMs, [], { ref: false });
}

function reachOfAddress(address: string): Reach {
  // Built at the first use, since most runs follow no redirect and no realm.
  blockLists ??= networks.map(([reach, subnets]) => [reach, toBlockList(subnets)]);
  const family = isIP(address) === 6 ? "ipv6" : "ipv4";
  const [reach] = blockLists.find(([, list]) => list.check(address, family)) ?? ["public" as const];
  return reach;
}

function toBlockList(subnets: string[]): BlockList {
  const list = new BlockList();
  for (const subnet of subnets) {
    const [address = "", prefix] = subnet.split("/");
    list.addSubnet(address, Number(prefix), isIP(address) === 6 ? "ipv6" : "ipv4");
  }
  return list;
}
