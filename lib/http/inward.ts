/**
 * Where a server may lead: never further inward than it lies itself.
 */
import { BlockList, isIP } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const ranges: Record<"link-local" | "loopback" | "private", string[]> = {
  // And where clouds answer with credentials of the node: AWS over IPv6, Alibaba, Azure, Oracle, any of them by NAT64.
  "link-local": [
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254/128",
    "100.100.100.200/32",
    "168.63.129.16/32",
    "192.0.0.192/32",
    "64:ff9b::a9fe:0/112",
  ],
  loopback: ["127.0.0.0/8", "0.0.0.0/8", "::1/128", "::/128"],
  private: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"],
};
let places: { place: string; list: BlockList }[] | undefined;

// Of no use to a run in which nobody leads anywhere.
function readRanges(): { place: string; list: BlockList }[] {
  return Object.entries(ranges).map(([place, networks]) => {
    const list = new BlockList();
    for (const network of networks) {
      const [address = "", prefix] = network.split("/");
      list.addSubnet(address, Number(prefix), isIP(address) === 6 ? "ipv6" : "ipv4");
    }
    return { place, list };
  });
}

const inwardness = ["public", "private", "loopback", "link-local"];

/** Throws Error, which begins with `what`, where a server of one host leads to another that lies further inward: from
 *  the internet into a private network, from there to loopback, and link-local from anywhere, since the metadata of
 *  clouds is there. On-premises registries with their token servers on private addresses are fine
 *  (mesosphere/mindthegap#1046). */
export async function refuseInward(fromHost: string, toHost: string, what: string): Promise<void> {
  const [from, to] = await Promise.all([placeOf(fromHost), placeOf(toHost)]);
  const isInward = inwardness.indexOf(to) > inwardness.indexOf(from) || to === "link-local";
  if (isInward) throw new Error(`${what} leads to a ${to} address`);
}

// The most inward one of a name's addresses; a name that this machine cannot resolve is for a proxy to find.
async function placeOf(host: string): Promise<string> {
  const name = host.replace(/^\[|\]$|\.$/g, "").toLowerCase();
  if (/^metadata(?:\.google\.internal)?$/.test(name)) return "link-local";
  const unresolved = sleep(3000, [], { ref: false });
  const found = isIP(name) ? [{ address: name }] : await Promise.race([lookupAll(name), unresolved]);
  places ??= readRanges();
  const at = found.map(({ address }) => {
    const family = isIP(address) === 6 ? "ipv6" : "ipv4";
    return places?.find(({ list }) => list.check(address, family))?.place ?? "public";
  });
  return at.toSorted((a, b) => inwardness.indexOf(b) - inwardness.indexOf(a))[0] ?? "public";
}

async function lookupAll(name: string): Promise<{ address: string }[]> {
  const { lookup } = await import("node:dns/promises");
  return lookup(name, { all: true }).catch(() => []);
}
