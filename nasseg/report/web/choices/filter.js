// What the reader has chosen to see. Every figure, table and answer asks `keeps(row)`.

import { byId } from "../lib/dom.js";
import { parseNumber } from "../lib/words.js";

export class Filter {
  constructor(data, changed) {
    Object.assign(this, { rows: data.rows, hidden: new Set(), ranges: {}, values: {}, changed, memory: new Map() });
    const later = () => (clearTimeout(this.timer), (this.timer = setTimeout(() => this.read(), 150)));
    for (const input of document.querySelectorAll("#filters input")) input.addEventListener("input", later);
    for (const select of document.querySelectorAll("#filters select")) select.addEventListener("change", () => this.read());
    for (const key of document.querySelectorAll(".legend button")) key.addEventListener("click", () => this.toggle(key));
    byId("filter-clear").addEventListener("click", () => this.clear());
  }

  toggle(key) {
    const group = key.dataset.group;
    if (!this.hidden.delete(group)) this.hidden.add(group);
    key.setAttribute("aria-pressed", !this.hidden.has(group));
    this.apply();
  }

  read() {
    this.ranges = {};
    this.values = {};
    for (const input of document.querySelectorAll("#filters input")) {
      const value = parseNumber(input.value);
      input.setAttribute("aria-invalid", input.value.trim() !== "" && Number.isNaN(value));
      if (!Number.isNaN(value)) (this.ranges[input.dataset.figure] ??= {})[input.dataset.side] = value;
    }
    for (const select of document.querySelectorAll("#filters select")) {
      if (select.value !== "") this.values[select.dataset.parameter] = Number(select.value);
    }
    this.apply();
  }

  clear() {
    for (const field of document.querySelectorAll("#filters input, #filters select")) field.value = "";
    for (const key of document.querySelectorAll(".legend button")) key.setAttribute("aria-pressed", "true");
    this.hidden.clear();
    this.read();
  }

  apply() {
    this.memory.clear();
    const { finished } = this.rows, kept = finished.filter((row) => this.keeps(row)).length;
    byId("filter-bar").hidden = !this.active;
    byId("filter-count").textContent = `${kept.toLocaleString("en")} of ${finished.length.toLocaleString("en")} finished networks are shown.`;
    this.changed();
  }

  get active() {
    return this.hidden.size > 0 || Object.keys(this.ranges).length > 0 || Object.keys(this.values).length > 0;
  }

  keeps(row) {
    if (!this.active) return true;
    if (!this.memory.has(row)) this.memory.set(row, this.test(row));
    return this.memory.get(row);
  }

  test(row) {
    const { keys, figures, choices, groups } = this.rows, published = row >= keys.length;
    if (this.hidden.has(published ? "published" : String(groups[row]))) return false;
    for (const [name, { min = -Infinity, max = Infinity }] of Object.entries(this.ranges)) {
      const value = figures[name].values[row];
      if (value === null ? !published : value < min || value > max) return false;
    }
    return published || Object.entries(this.values).every(([name, level]) => choices[name].codes[row] === level);
  }

  // A trace without the points that are not kept; points name their rows in customdata.
  trace(trace) {
    if (!this.active || !Array.isArray(trace.customdata)) return trace;
    const kept = trace.customdata.map((row) => this.keeps(row)), pick = (list) => list.filter((_, i) => kept[i]);
    const result = { ...trace };
    for (const key of ["x", "y", "customdata", "text", "hovertext"]) if (Array.isArray(trace[key])) result[key] = pick(trace[key]);
    for (const key of ["error_x", "error_y"]) if (trace[key]) result[key] = { ...trace[key], array: pick(trace[key].array) };
    return result;
  }
}
