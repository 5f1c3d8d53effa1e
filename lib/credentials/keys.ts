/**
 * Matches the keys of docker configs as the kubelet does (k8s.io/kubernetes, pkg/credentialprovider): which keys are
 * for an image, and in which order they are tried.
 */

/** The keys that the kubelet would try for an image, in its order. The image is named in full, without a tag:
 *  `docker.io/library/nginx`. Keys are `https://index.docker.io/v1/`, `*.example.org/team`, `example.org:5000`. */
export function matchingKeys(keys: readonly string[], image: string): string[] {
  const entries = keys.map((key) => ({ key }));
  return matchingEntries(entries, image).map(({ key }) => key);
}

/** As matchingKeys, for anything that has a key. */
export function matchingEntries<Entry extends { key: string }>(entries: Entry[], image: string): Entry[] {
  const target = parseKey(image);
  const parsed = entries.flatMap((entry) => {
    // The kubelet ignores `/v1/` and `/v2/` at the start of a key's path, as in `https://index.docker.io/v1/`.
    const pattern = parseKey(entry.key, /^\/v[12](?=\/)/);
    return pattern ? [{ entry, pattern, bytes: Buffer.from(pattern.name) }] : [];
  });
  const matches = parsed.filter(({ pattern }) => target && isKeyFor(pattern, target));
  // In reverse order of bytes, so that of two paths of one host the longer comes first.
  if (matches.length > 0) return matches.toSorted((a, b) => Buffer.compare(b.bytes, a.bytes)).map(({ entry }) => entry);
  // The kubelet tries Docker Hub's key for `localhost` and every other host without a dot too. figwasp does not, since
  // it would send Docker Hub's credential to another host.
  if (!image.startsWith("docker.io/")) return [];
  return parsed.filter(({ pattern }) => pattern.name === "index.docker.io").map(({ entry }) => entry);
}

interface DockerKey {
  /** Host, port and path: `example.org:5000/team`. */
  name: string;
  /** The host, split at its dots. */
  labels: string[];
  /** Without the colon; empty where none is given. */
  port: string;
  /** With the slash at its start, or empty. */
  path: string;
}

// As Go's url.Parse reads a key, which the kubelet uses: `?` begins a query and `[` an IPv6 address, so that `*` is the
// only wildcard. Undefined for what Go does not parse; the kubelet ignores such a key.
function parseKey(key: string, ignoredPrefix?: RegExp): DockerKey | undefined {
  const urlPattern =
    /^(?:https?:\/\/)?(?:[\w\-.:~!$&'()*+,;=%@]*@)?(\[[\dA-Fa-f:.]+\]|[\w\-.~!$&'()*+,;=<>"\u0080-\uffff]*)(:\d*)?(\/[^?#]*)?(?:[?#]|$)/;
  const match = urlPattern.exec(key);
  // eslint-disable-next-line no-control-regex -- Go refuses them
  if (!match || /[\u0000-\u001f\u007f]/.test(key)) return undefined;
  const [, host = "", port = "", urlPath = ""] = match;
  const path = ignoredPrefix ? urlPath.replace(ignoredPrefix, "").replace(/^\/$/, "") : urlPath;
  return { name: host + port + path, labels: host.split("."), port: port.slice(1), path };
}

/** Whether a key is for registries of unrelated owners: `*.io` matches Docker Hub, `ghcr.io` and `quay.io`. */
export function isForAnybody(key: string): boolean {
  const { labels = [] } = parseKey(key) ?? {};
  return labels[0] === "*" && labels.length <= 2;
}

// The host is matched label by label, so that `*` never stands for a dot. The path is a prefix of characters, not of
// whole components: `/team` matches `/teams/app`.
function isKeyFor({ labels, port, path }: DockerKey, image: DockerKey): boolean {
  const isSameHost =
    labels.length === image.labels.length && labels.every((label, index) => matchesGlob(label, image.labels[index]));
  return isSameHost && port === image.port && image.path.startsWith(path);
}

function matchesGlob(glob: string, text = ""): boolean {
  const [start = "", ...parts] = glob.split("*");
  const end = parts.pop();
  if (end === undefined) return text === glob;
  let position = start.length;
  for (const part of parts) {
    const index = text.indexOf(part, position);
    if (index < 0) return false;
    position = index + part.length;
  }
  return text.startsWith(start) && text.endsWith(end) && position <= text.length - end.length;
}
