/**
 * The keys of docker configs, matched as the kubelet matches them (k8s.io/kubernetes, pkg/credentialprovider): which are
 * for an image, and in which order. Which of them hold a credential, and where that may go, stands elsewhere.
 */

/** The keys of docker configs that the kubelet would try for an image, in its order. The image is named in full, without
 *  a tag: `docker.io/library/nginx`. A key is `https://index.docker.io/v1/`, `*.example.org/team`, `example.org:5000`. */
export function matchingKeys(keys: readonly string[], image: string): string[] {
  const entries = keys.map((key) => ({ key }));
  return matching(entries, image).map(({ key }) => key);
}

/** The same, of anything that has a key. */
export function matching<Entry extends { key: string }>(entries: Entry[], image: string): Entry[] {
  const target = parseKey(image);
  const parsed = entries.flatMap((entry) => {
    const pattern = parseKey(entry.key, /^\/v[12](?=\/)/);
    return pattern ? [{ entry, pattern, bytes: Buffer.from(pattern.name) }] : [];
  });
  const found = parsed.filter(({ pattern }) => target && covers(pattern, target));
  // In reverse order of bytes, so that the longer of two paths comes first.
  if (found.length > 0) return found.toSorted((a, b) => Buffer.compare(b.bytes, a.bytes)).map(({ entry }) => entry);
  // The kubelet does this for `localhost` and all other hosts without a dot as well; they would get Docker Hub's.
  if (!image.startsWith("docker.io/")) return [];
  return parsed.filter(({ pattern }) => pattern.name === "index.docker.io").map(({ entry }) => entry);
}

type DockerKey = { name: string; labels: string[]; port: string; path: string };

// As Go's url.Parse reads it, which the kubelet uses: `?` begins a query and `[` an IPv6 address, so that of a glob
// only `*` is left. Undefined for what Go refuses, which the kubelet passes over.
function parseKey(key: string, needlessPath?: RegExp): DockerKey | undefined {
  const url =
    /^(?:https?:\/\/)?(?:[\w\-.:~!$&'()*+,;=%@]*@)?(\[[\dA-Fa-f:.]+\]|[\w\-.~!$&'()*+,;=<>"\u0080-\uffff]*)(:\d*)?(\/[^?#]*)?(?:[?#]|$)/;
  const [found, host = "", port = "", rest = ""] = url.exec(key) ?? [];
  // eslint-disable-next-line no-control-regex -- Go refuses them
  if (found === undefined || /[\u0000-\u001f\u007f]/.test(key)) return undefined;
  const path = needlessPath ? rest.replace(needlessPath, "").replace(/^\/$/, "") : rest;
  return { name: host + port + path, labels: host.split("."), port: port.slice(1), path };
}

/** Whether a key gives its credential to registries of whatever owner: `*.io` matches Docker Hub, `ghcr.io` and `quay.io`. */
export function isForAnybody(key: string): boolean {
  const { labels = [] } = parseKey(key) ?? {};
  return labels[0] === "*" && labels.length <= 2;
}

// Label by label, so that `*` never crosses a dot; the path is a prefix of text, not of path components.
function covers(pattern: DockerKey, image: DockerKey): boolean {
  const { labels, port, path } = pattern;
  const isSameHost =
    labels.length === image.labels.length && labels.every((label, at) => matchesGlob(label, image.labels[at]));
  return isSameHost && port === image.port && image.path.startsWith(path);
}

function matchesGlob(glob: string, text = ""): boolean {
  const [start = "", ...parts] = glob.split("*");
  const end = parts.pop();
  if (end === undefined) return text === glob;
  let at = start.length;
  for (const part of parts) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  return text.startsWith(start) && text.endsWith(end) && at <= text.length - end.length;
}
