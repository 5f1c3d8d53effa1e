/**
 * How a run ends: by the report of its findings, or by what `rbac` and `doctor` print of them.
 */
import type { Finding } from "../verdicts.ts";
import { ownNotes, type RunContext } from "./context.ts";
import type { Outside } from "./outside.ts";
import { terminationMessage } from "./report.ts";
import { finalLines } from "./terminal.ts";

/** Prints what the command asks for. `exitCode` is that of the findings. Resolves to the exit code of the command:
 *  `rbac` ends with 0, and `doctor` with 1 if anything is not well. */
export async function conclude(
  run: RunContext,
  outside: Outside,
  { findings, exitCode }: { findings: Finding[]; exitCode: number },
): Promise<number> {
  const { config, registry } = run;
  // The build keeps these commands in files of their own, so that a run does not load them.
  if (config.command === "rbac") {
    const { printRoles } = await import("./rbac.ts");
    outside.log(await printRoles(findings, run));
    return 0;
  }
  if (config.command === "doctor") {
    const { diagnose, gatherDiagnosis } = await import("./doctor.ts");
    const diagnosis = await gatherDiagnosis(run, findings);
    const notes = [...ownNotes(run), ...registry.remarks];
    const { lines, isWell } = diagnose({ ...diagnosis, notes, exitCode }, outside.terminal);
    for (const line of lines) outside.log(line);
    return isWell ? 0 : 1;
  }
  const notes = [...ownNotes(run), ...registry.notes];
  const report = { findings, notes, isDryRun: config.isDryRun, exitCode };
  await outside.end?.(terminationMessage(report));
  for (const line of finalLines(report, config.output, outside.terminal)) outside.log(line);
  return exitCode;
}
