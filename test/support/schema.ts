import { readFile } from "node:fs/promises";
import { Ajv2020 } from "ajv/dist/2020.js";

const schema = JSON.parse(await readFile(new URL("../../docs/report.schema.json", import.meta.url), "utf8")) as object;
const ajv = new Ajv2020({ allErrors: true, strict: true, strictRequired: false });
const validate = ajv.compile(schema);

/** The errors of a `-o json` document against its schema; empty if it is valid. */
export function mistakesIn(document: unknown): string {
  return validate(document) ? "" : ajv.errorsText(validate.errors);
}
