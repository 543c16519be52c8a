// Small tables of names and values.

import { el } from "./dom.js";

export function rowsOf(rows, className = "") {
  const cell = (value, i) => (value instanceof Node ? el("td", { class: "bars" }, value) : el("td", i ? { class: "number" } : {}, value));
  return el("table", { class: className }, el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))));
}

export function bar(percent) {
  const inner = el("i");
  inner.style.width = `${Math.max(0, Math.min(100, percent))}%`;
  return el("span", { class: "bar" }, inner);
}

export function head(names) {
  return el("thead", {}, el("tr", {}, ...names.map((name, i) => el("th", { scope: "col", class: i ? "number" : "" }, name))));
}
