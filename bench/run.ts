/**
 * Measures what a run of figwasp costs, by the size of the cluster: `npm run bench`. bench/README.md describes the
 * method, and `-- --write` updates it. `-- --program 'before=node old.cjs' --program 'after=node new.cjs'` compares
 * these two programs.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { sizeOf } from "../test/support/crowd.ts";
import { describeSize, type Measured, tableOf, writePage } from "./page.ts";
import { type Cost, type Counts, setStage } from "./stage.ts";

// The same flags as in the Dockerfile.
const asInImage = "node --max-semi-space-size=8 dist/figwasp.cjs";

const { values: options } = parseArgs({
  options: {
    program: { type: "string", multiple: true, default: [`in the image=${asInImage}`, "by tsx=tsx figwasp.ts"] },
    pods: { type: "string", default: "1,100,1000,10000" },
    runs: { type: "string" },
    "latency-ms": { type: "string", default: "0" },
    write: { type: "boolean", default: false },
  },
});

interface Program {
  name: string;
  command: string[];
}

const baseline: Program = { name: "node -e 0", command: ["node", "-e", "0"] };
const loop: Program = { name: "kubectl and crane", command: ["bench/loop.sh"] };
const loopPodsAtMost = 1000; // the loop starts two programs for each workload

const programs = options.program.map((program): Program => {
  const [, name = "", command = ""] = /^([^=]+)=(.+)$/.exec(program) ?? [];
  if (name === "") throw new Error(`--program ${program} is not NAME=COMMAND`);
  return { name, command: command.split(" ") };
});

async function bench(): Promise<void> {
  if (!isThere("unshare") || !isThere("python3")) throw new Error("Linux with unshare and python3 is needed");
  execFileSync("npm", ["run", "--silent", "build"], { stdio: "inherit" });
  const hasLoop = isThere("kubectl") && isThere("crane");
  const startUps = programs.map(({ name, command }) => ({ name, command: [...command, "--version"] }));

  const measured = await measure(0, startUps);
  for (const pods of options.pods.split(",").map(Number)) {
    const which = pods === 1 ? "deployment/app-0" : "--all-namespaces";
    const runs = programs.map(({ name, command }) => ({ name, command: [...command, which] }));
    const all = hasLoop && pods <= loopPodsAtMost ? [...runs, loop] : runs;
    measured.push(...(await measure(pods, all)));
  }
  console.log(tableOf(measured));
  if (!hasLoop) console.log("kubectl and crane were not both there to compare with");
  if (options.write) await writePage(measured);
}

// Runs the programs in turn, so that a disturbance of the machine affects all of them.
async function measure(pods: number, compared: Program[]): Promise<Measured[]> {
  const stage = await setStage(sizeOf(pods), Number(options["latency-ms"]));
  const runs = Number(options.runs ?? Math.max(3, 15 - 3 * Math.log10(pods || 1)));
  const samples = [baseline, ...compared].map((program) => ({ program, costs: [] as (Cost & Counts)[] }));
  try {
    for (let at = 0; at < runs; at++) {
      for (const { program, costs } of samples) {
        costs.push(await stage.run(program.command));
        if (process.stderr.isTTY)
          process.stderr.write(`\r${describeSize(pods)}, ${at + 1} of ${runs}: ${program.name}`.padEnd(79));
      }
    }
  } finally {
    await stage.close();
  }
  const [base, ...rest] = samples;
  return rest.map(({ program, costs }) => ({ pods, program: program.name, costs, base: base?.costs ?? [] }));
}

function isThere(command: string): boolean {
  return spawnSync("which", [command]).status === 0;
}

await bench();
