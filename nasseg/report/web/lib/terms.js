// What is typed to find rows: words, and conditions such as miou>40, all of which must hold.

import { parseNumber } from "./words.js";

const TERM = /^([^\s<>=!]+?)(<=|>=|!=|=|<|>)(.+)$/;

// names: of the columns; a blank in one is typed as _. Returns {test} of a row, or {problem} in words.
export function matcher(text, names) {
  const tests = [];
  for (const term of text.trim().split(/\s+/).filter(Boolean)) {
    const [, name, sign, typed] = TERM.exec(term) ?? [];
    if (!sign) {
      const word = term.toLowerCase(), numbers = names.indexOf("number");
      tests.push((row) => row.some((value) => typeof value === "string" && value.toLowerCase().includes(word)) || [`#${row[numbers]}`, String(row[numbers])].includes(word));
      continue;
    }
    const at = names.findIndex((one) => one.replace(/\s/g, "_").toLowerCase() === name.toLowerCase());
    if (at < 0) return { problem: `There is no column ${name}. Columns: ${names.slice(0, 12).join(", ")}, ...` };
    const bound = parseNumber(typed), ordered = { "<": (v) => v < bound, "<=": (v) => v <= bound, ">": (v) => v > bound, ">=": (v) => v >= bound };
    if (sign in ordered && Number.isNaN(bound)) return { problem: `${term}: ${sign} needs a number, such as ${name}${sign}12 or ${name}${sign}1.5G.` };
    const equal = (value) => (typeof value === "number" ? value === bound : String(value).toLowerCase() === typed.toLowerCase());
    const holds = ordered[sign] ?? (sign === "=" ? equal : (value) => !equal(value));
    tests.push((row) => row[at] !== null && holds(row[at]));
  }
  return { test: (row) => tests.every((one) => one(row)) };
}
