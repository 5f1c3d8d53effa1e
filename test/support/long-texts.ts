/**
 * Gives a parser texts that take too long to parse if the parser needs more than linear time. Each text is a start of
 * the grammar and then one of its pieces, many times, with and without an invalid last character. There are as many
 * short texts, for parsers that refuse long ones. The script runs as a process of its own, because a regular expression
 * that hangs can only be killed; the last line that it printed shows what hung.
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
