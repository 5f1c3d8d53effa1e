/** Answers of registries and token servers, which can be combined: `routes({ "/token": …, "/v2/": behind(…) })`. */
import { imageOf, sha256 } from "./registry.ts";
import type { Answer, Recorded } from "./serve.ts";

/** The digest of the one image that all of these registries have. */
export const digest = sha256(imageOf("v1").body);

/** Serves the image under any name and tag, and by no other digest. Some methods can omit the digest header. */
export function holding({ withoutDigest = [] as string[] } = {}): Answer {
  const { type, body } = imageOf("v1");
  return ({ method, path }, response) => {
    const [, asked = digest] = /\/manifests\/(sha256:[^?]*)/.exec(path) ?? [];
    if (asked !== digest) return void response.writeHead(404).end();
    const header = withoutDigest.includes(method) ? {} : { "docker-content-digest": digest };
    response.writeHead(200, { "content-type": type, ...header }).end(method === "HEAD" ? undefined : body);
  };
}

/** Answers with a status and an error of a registry: `refusing(403, "DENIED: no")`. */
export function refusing(status: number, words = "", headers: Record<string, string | string[]> = {}): Answer {
  const [code = "", message = ""] = words.split(/: (.*)/s);
  const body = words === "" ? "" : JSON.stringify({ errors: [{ code, message }] });
  return ({ method }, response) => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(method === "HEAD" ? undefined : body);
  };
}

/** Accepts requests with one of these Authorization headers, and answers all others with a challenge. */
export function behind(challenge: string | string[], authorizations: string[], inside = holding()): Answer {
  const outside = refusing(401, "UNAUTHORIZED: authentication required", { "www-authenticate": challenge });
  return (request, response) => {
    const isIn = authorizations.includes(request.headers.authorization ?? "");
    return (isIn ? inside : outside)(request, response);
  };
}

/** A token server with a token for each Authorization header that it accepts; an empty one means no header. */
export function giving(tokens: Record<string, string>, key = "token"): Answer {
  return (request, response) => {
    const token = tokens[request.headers.authorization ?? ""];
    if (token === undefined) refusing(401, "UNAUTHORIZED: who are you")(request, response);
    else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ [key]: token }));
  };
}

/** Answers by the beginning of the path or of `METHOD /path`; the first entry that matches answers. */
export function routes(table: Record<string, Answer>): Answer {
  return (request, response) => {
    const fits = (start: string) =>
      `${start.startsWith("/") ? "" : `${request.method} `}${request.path}`.startsWith(start);
    const [, answer = refusing(404)] = Object.entries(table).find(([start]) => fits(start)) ?? [];
    return answer(request, response);
  };
}

/** Gives each answer once, and repeats the last one. */
export function inTurn(...answers: Answer[]): Answer {
  let at = 0;
  return (request, response) => answers[Math.min(at++, answers.length - 1)]?.(request, response);
}

/** The query of a request's URL. */
export function queryOf({ path }: Pick<Recorded, "path">): URLSearchParams {
  return new URL(path, "http://stub").searchParams;
}
