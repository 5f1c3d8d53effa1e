/** What registries and token servers answer, to be put together: `routes({ "/token": …, "/v2/": behind(…) })`. */
import { imageOf, sha256 } from "./registry.ts";
import type { Answer, Recorded } from "./serve.ts";

/** Of the one image that is in all of these registries. */
export const digest = sha256(imageOf("v1").body);

/** The image under any name and tag, and no other digest; without its digest header for some methods. */
export function holding({ withoutDigest = [] as string[] } = {}): Answer {
  const { type, body } = imageOf("v1");
  return ({ method, path }, response) => {
    const [, asked = digest] = /\/manifests\/(sha256:[^?]*)/.exec(path) ?? [];
    if (asked !== digest) return void response.writeHead(404).end();
    const header = withoutDigest.includes(method) ? {} : { "docker-content-digest": digest };
    response.writeHead(200, { "content-type": type, ...header }).end(method === "HEAD" ? undefined : body);
  };
}

/** A status, and what a registry says with it: `refusing(403, "DENIED: no")`. */
export function refusing(status: number, words = "", headers: Record<string, string | string[]> = {}): Answer {
  const [code = "", message = ""] = words.split(/: (.*)/s);
  const body = words === "" ? "" : JSON.stringify({ errors: [{ code, message }] });
  return ({ method }, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(method === "HEAD" ? undefined : body);
  };
}

/** Lets in who sends one of these Authorization headers, and challenges everybody else. */
export function behind(challenge: string | string[], authorizations: string[], inside = holding()): Answer {
  const outside = refusing(401, "UNAUTHORIZED: authentication required", { "www-authenticate": challenge });
  return (request, response) => {
    const isIn = authorizations.includes(request.headers.authorization ?? "");
    return (isIn ? inside : outside)(request, response);
  };
}

/** A token server: a token for each Authorization header that it lets in, an empty one being nobody's. */
export function giving(tokens: Record<string, string>, key = "token"): Answer {
  return (request, response) => {
    const token = tokens[request.headers.authorization ?? ""];
    if (token === undefined) refusing(401, "UNAUTHORIZED: who are you")(request, response);
    else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ [key]: token }));
  };
}

/** By the beginning of the path, or of `METHOD /path`; the first that fits answers. */
export function routes(table: Record<string, Answer>): Answer {
  return (request, response) => {
    const fits = (start: string) =>
      `${start.startsWith("/") ? "" : `${request.method} `}${request.path}`.startsWith(start);
    const [, answer = refusing(404)] = Object.entries(table).find(([start]) => fits(start)) ?? [];
    return answer(request, response);
  };
}

/** Each answer once, the last one for ever. */
export function inTurn(...answers: Answer[]): Answer {
  let at = 0;
  return (request, response) => answers[Math.min(at++, answers.length - 1)]?.(request, response);
}

/** The query of a request. */
export function queryOf({ path }: Pick<Recorded, "path">): URLSearchParams {
  return new URL(path, "http://stub").searchParams;
}
