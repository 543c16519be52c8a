import { el } from "./dom.js";

// Trials as the file holds them, {columns, data}, as CSV. Text that a spreadsheet would run begins with an apostrophe.
export function csvOf({ columns, data }) {
  const text = (value) => (value === null ? "" : value === true ? "True" : value === false ? "False" : typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value));
  const cell = (value) => (/[",\r\n]/.test(text(value)) ? `"${text(value).replaceAll('"', '""')}"` : text(value));
  return [columns, ...data].map((row) => row.map(cell).join(",") + "\n").join("");
}

export function jsonOf({ studies, trials: { columns, data } }) {
  const trials = data.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], value])));
  return JSON.stringify({ studies, trials }, null, 1);
}

export function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
