/**
 * Reasons of a verdict that take more than a few words. When each applies is decided in figwasp.ts.
 */
import type { OutdatedContainer } from "../verdicts.ts";

type NamedOutdated = OutdatedContainer & { name: string };

/** Why a container is unknown that was restarted, and whose tag still has some of the images that run. */
export function describeUnclear({ name, running, resolved }: NamedOutdated): string {
  const why = "an older index with some of the same images: the nodes may know one by either name";
  return `${name} was restarted for ${resolved}, and its pods run ${running}, ${why}`;
}

/** Why a container has not converged, the likeliest cause first: if the registry does not have what the nodes pulled,
 *  they know it by another name. `restartedAt` is undefined if no pod tells when it was restarted. */
export function describeStuck(
  { name, running, resolved, isAbsent }: NamedOutdated,
  { restartedAt, retryIntervalMs }: { restartedAt: string | undefined; retryIntervalMs: number | undefined },
): string {
  const when = restartedAt ?? "a time that no pod tells";
  const retry = retryIntervalMs === undefined ? ", or set FIGWASP_RETRY_INTERVAL" : "";
  const mirror = "they pull through a mirror or cache that still serves an older image";
  const proxy = "a proxy rewrites the image, or the nodes know it by another repository's name";
  const likely = isAbsent ? `${proxy}; or ${mirror}` : `${mirror}; or ${proxy}`;
  return (
    `${name} was restarted for ${resolved} at ${when}, and its pods run ${running}. Likely ${likely}; or somebody ` +
    `rolled it out since. Mount the nodes' certs.d folder as FIGWASP_CERTS_DIR to ask where they ask${retry}, or restart it by hand`
  );
}
