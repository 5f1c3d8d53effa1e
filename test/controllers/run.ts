/**
 * `npm run test:controllers`: starts a control plane, runs the tests of this folder against it, and ends it.
 * Arguments go to the test runner: `npm run test:controllers -- --test-name-pattern=undo`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { type ControlPlane, findPrograms, startControlPlane } from "./support/control-plane.ts";

const stop = new AbortController();
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(name, () => stop.abort(new Error(`${name} was received`)));
}

async function run(argv: string[]): Promise<number> {
  const programs = await findPrograms(process.env);
  const before = performance.now();
  const controlPlane = await startControlPlane(programs, stop.signal);
  try {
    const seconds = ((performance.now() - before) / 1000).toFixed(1);
    console.log(`The control plane was ready after ${seconds} s`);
    return await runTests(controlPlane, argv);
  } finally {
    await controlPlane.end();
  }
}

// A test that waits for what never comes waits for half a minute, several times at most.
const testDeadlineMs = 120_000;

// Gives the exit code of the tests. Without a control plane they are ended, since each would wait for its deadline.
async function runTests({ folder, broken }: ControlPlane, argv: string[]): Promise<number> {
  const flags = ["--test", "--test-concurrency=4", `--test-timeout=${testDeadlineMs}`, ...argv];
  // In a group of their own, so that what they have started can be ended with them, kubectl for one.
  const tests = spawn(process.execPath, [...flags, join(import.meta.dirname, "*.test.ts")], {
    // Their files are deleted with those of the control plane, whatever becomes of them.
    env: { ...process.env, FIGWASP_CONTROL_PLANE: folder, TMPDIR: folder },
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  const ended = new Promise<number>((resolve, reject) => {
    tests.once("error", reject);
    tests.once("exit", (code) => resolve(code ?? 1));
  });
  const stopped = new Promise<Error>((resolve) => {
    const tell = () => resolve(stop.signal.reason as Error);
    if (stop.signal.aborted) tell();
    else stop.signal.addEventListener("abort", tell);
  });
  const first = await Promise.race([ended, broken, stopped]);
  killGroup(tests);
  await ended;
  if (typeof first === "number") return first;
  throw first;
}

function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch (error) {
    // All of it has ended by itself.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

try {
  process.exitCode = await run(process.argv.slice(2));
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
