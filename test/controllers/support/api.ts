/**
 * The API server of the control plane that `npm run test:controllers` has started, asked as its administrator.
 */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { Agent, request } from "undici";
import type { Access } from "./control-plane.ts";

// Never the reader's own KUBECONFIG: the tests make and delete things.
const folder = process.env["FIGWASP_CONTROL_PLANE"];
if (!folder) throw new Error("These tests need a control plane: npm run test:controllers starts one, and runs them");

export const access = JSON.parse(await readFile(join(folder, "access.json"), "utf8")) as Access;
const dispatcher = new Agent({ connect: { ca: access.ca } });

export class ApiError extends Error {
  readonly status: number;

  constructor(message: string, status: number) {
    super(message);
    this.status = status;
  }
}

interface Asked {
  body?: object;
  /** Of the body of a PATCH. */
  type?: "strategic-merge-patch" | "merge-patch";
}

/** Asks for a path; gives the object of the answer. Throws ApiError with what the API server says. */
export async function call<T>(method: string, path: string, { body, type }: Asked = {}): Promise<T> {
  const contentType = type ? `application/${type}+json` : "application/json";
  const headers = { authorization: `Bearer ${access.token}`, "content-type": contentType };
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await request(access.server + path, { method, headers, dispatcher, ...sent });
  const answer = (await response.body.json()) as { message?: string };
  if (response.statusCode < 300) return answer as T;
  throw new ApiError(`${method} ${path} returned ${response.statusCode}: ${answer.message}`, response.statusCode);
}

/** What kubectl prints. Throws Error with what it says where it fails. */
export async function kubectl(...argv: string[]): Promise<string> {
  const { PATH } = process.env;
  const env = { PATH, KUBECONFIG: join(folder ?? "", "kubeconfig"), KUBECACHEDIR: join(folder ?? "", "kubectl") };
  return (await promisify(execFile)(access.kubectl, argv, { env })).stdout;
}
