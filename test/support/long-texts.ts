/**
 * Gives a parser texts that one of more than linear time would not get through: each piece of its grammar, repeated,
 * after each of its starts, with and without a last character that spoils it; and as many short ones, for what a limit
 * of length keeps from the others. Run by itself, because what hangs in a regular expression can only be killed; what
 * it wrote last is what hung.
 *
 *   node test/support/long-texts.ts parseReference
 */
import { attempt, parsers } from "./parsers.ts";

const lengths = [200, 200_000];

for (const name of process.argv.slice(2)) {
  const parser = parsers[name];
  if (!parser) throw new Error(`${name} is none of ${Object.keys(parsers).join(", ")}`);
  for (const piece of parser.pieces) {
    for (const start of parser.starts) {
      for (const end of ["", "\0"]) {
        console.log(`${name} of ${JSON.stringify([start, piece, end])}`);
        for (const length of lengths) attempt(parser, start + piece.repeat(Math.ceil(length / piece.length)) + end);
      }
    }
  }
}
