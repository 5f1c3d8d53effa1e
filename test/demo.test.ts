import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, it } from "node:test";
import { promisify } from "node:util";

describe("npm run demo", () => {
  it("shows the decision and the PATCH, and ends by itself", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ["fixtures/demo.ts"]);
    const verdicts = [...stdout.matchAll(/^deployment shop\/my-app: (.*)$/gm)].map(([, verdict]) => verdict);
    const restarts = ["would be restarted, outdated: app", "restarted, outdated: app"];
    assert.deepEqual(verdicts, ["current, nothing to do", ...restarts, "current, nothing to do"]);
    const written = [...stdout.matchAll(/^([A-Z]+) \/ap/gm)].map(([, method]) => method);
    assert.deepEqual(written, ["PATCH", "POST"]);
    assert.match(stdout, /"kubectl.kubernetes.io\/restartedAt": "/);
  });
});
