// What the reader has chosen to see. Every figure, table and answer asks `keeps(row)`. Each choice is a chip that can be
// removed, and a key of the page's fragment.

import { inside, thinned } from "./area.js";
import { byId, el } from "../lib/dom.js";
import { remember, setting, settingsFrom } from "../lib/fragment.js";
import { number, parseNumber } from "../lib/words.js";

export class Filter {
  // hidden: groups; ranges: {figure: {min, max}}; levels: {parameter: set of places among its levels}; area: see keepArea.
  constructor(data, columns, changed) {
    Object.assign(this, { rows: data.rows, columns, changed, hidden: new Set(), ranges: {}, levels: {}, area: null, memory: new Map() });
    for (const input of document.querySelectorAll("#filters input")) {
      let timer = null;
      input.addEventListener("input", () => (clearTimeout(timer), (timer = setTimeout(() => this.type(input), 150))));
    }
    for (const select of document.querySelectorAll("#filters select")) {
      select.append(el("option", { value: "several", hidden: "" }, "several"));
      select.addEventListener("change", () => this.pick(select.dataset.parameter, select.value === "" ? [] : [Number(select.value)]));
    }
    const keys = [...document.querySelectorAll(".legend button")];
    this.groups = new Map(keys.map((key) => [key.dataset.group, key.querySelector("span").textContent]));
    for (const key of keys) key.addEventListener("click", () => this.toggle(key.dataset.group));
    byId("filter-clear").addEventListener("click", () => this.clear());
  }

  toggle(group) {
    if (!this.hidden.delete(group)) this.hidden.add(group);
    this.apply();
  }

  type(input) {
    const { figure, side } = input.dataset, value = parseNumber(input.value);
    input.setAttribute("aria-invalid", input.value.trim() !== "" && Number.isNaN(value));
    const range = { ...this.ranges[figure] };
    if (Number.isNaN(value)) delete range[side];
    else range[side] = value;
    this.range(figure, range);
    this.apply();
  }

  range(figure, range) {
    if (Object.keys(range).length) this.ranges[figure] = range;
    else delete this.ranges[figure];
  }

  pick(parameter, places) {
    if (places.length) this.levels[parameter] = new Set(places);
    else delete this.levels[parameter];
    this.apply();
  }

  // Each: [column, from, to]. For a parameter, the levels in between are kept.
  keepRanges(...chosen) {
    for (const [column, ...ends] of chosen) {
      const [min, max] = ends.map(Number).sort((a, b) => a - b);
      if (!column.levels) this.ranges[column.name] = { min: Number(min.toPrecision(4)), max: Number(max.toPrecision(4)) };
      else {
        const places = column.levels.map((_, i) => i).filter((i) => i >= min - 0.25 && i <= max + 0.25);
        if (places.length && places.length < column.levels.length) this.levels[column.parameter] = new Set(places);
      }
    }
    this.apply();
  }

  // {x, y: names of columns, log: [of x, of y], points: [[x, y], ...]}
  keepArea(area) {
    this.area = { ...area, points: thinned(area.points) };
    this.apply();
  }

  clear() {
    Object.assign(this, { ranges: {}, levels: {}, area: null });
    this.hidden.clear();
    this.apply();
  }

  // [text, function that removes it] of each choice.
  chips() {
    const { figures, choices } = this.rows, found = [];
    for (const group of this.hidden) found.push([`without ${this.groups.get(group)}`, () => this.hidden.delete(group)]);
    for (const [name, { min, max }] of Object.entries(this.ranges)) {
      const { label, unit } = figures[name], said = (value) => number(value, unit);
      const text = min === undefined ? `at most ${said(max)}` : max === undefined ? `at least ${said(min)}` : `${said(min)} to ${said(max)}`;
      found.push([`${label}: ${text}`, () => delete this.ranges[name]]);
    }
    for (const [name, places] of Object.entries(this.levels)) found.push([`${name}: ${[...places].map((i) => choices[name].levels[i]).join(", ")}`, () => delete this.levels[name]]);
    if (this.area) found.push(["inside the lasso", () => (this.area = null)]);
    return found;
  }

  apply() {
    this.memory.clear();
    const { finished, unfinished } = this.rows, kept = finished.filter((row) => this.keeps(row)).length;
    byId("filter-bar").hidden = !this.active;
    byId("filter-count").textContent = `${kept.toLocaleString("en")} of ${finished.length.toLocaleString("en")} ${unfinished ? "measured" : "finished"} networks are shown.`;
    byId("filter-chips").replaceChildren(...this.chips().map(([text, remove]) => {
      const chip = el("button", { type: "button", class: "chip", "aria-label": `Remove the filter ${text}` }, text, el("span", { "aria-hidden": "true" }, " ×"));
      chip.addEventListener("click", () => (remove(), this.apply()));
      return chip;
    })); // prettier-ignore
    this.showFields();
    this.remember();
    this.changed();
  }

  showFields() {
    for (const input of document.querySelectorAll("#filters input")) {
      const value = this.ranges[input.dataset.figure]?.[input.dataset.side];
      if (input !== document.activeElement) input.value = value === undefined ? "" : number(value);
    }
    for (const select of document.querySelectorAll("#filters select")) {
      const places = [...(this.levels[select.dataset.parameter] ?? [])];
      select.value = places.length > 1 ? "several" : (places[0] ?? "");
    }
    for (const key of document.querySelectorAll(".legend button")) key.setAttribute("aria-pressed", !this.hidden.has(key.dataset.group));
  }

  remember() {
    const ranges = Object.entries(this.ranges).map(([name, { min = "", max = "" }]) => [`range.${name}`, `${min}..${max}`]);
    const levels = Object.entries(this.levels).map(([name, places]) => [`only.${name}`, [...places].map((i) => this.rows.choices[name].levels[i]).join("|")]);
    const old = [...settingsFrom("range."), ...settingsFrom("only.")].map(([key]) => [key, null]);
    const { x, y, log, points } = this.area ?? {};
    const lasso = this.area && [x, y, ...log.map(Number), ...points.flat()].join(";");
    remember({ ...Object.fromEntries([...old, ...ranges, ...levels]), hide: [...this.hidden].map((group) => this.groups.get(group)).join("|"), lasso });
  }

  // Restores what the fragment says. Names that this page does not know are left out.
  restore() {
    const { figures, choices } = this.rows, hidden = (setting("hide") ?? "").split("|");
    this.hidden = new Set([...this.groups.keys()].filter((group) => hidden.includes(this.groups.get(group))));
    for (const [key, text] of settingsFrom("range.")) {
      const name = key.replace("range.", ""), [min, max] = text.split("..").map((end) => (end === "" ? NaN : Number(end)));
      if (name in figures) this.range(name, { ...(Number.isFinite(min) ? { min } : {}), ...(Number.isFinite(max) ? { max } : {}) });
    }
    for (const [key, text] of settingsFrom("only.")) {
      const name = key.replace("only.", ""), places = text.split("|").map((level) => choices[name]?.levels.indexOf(level) ?? -1);
      if (places.some((i) => i >= 0)) this.levels[name] = new Set(places.filter((i) => i >= 0));
    }
    const [x, y, ...rest] = (setting("lasso") ?? "").split(";"), [across, up, ...flat] = rest.map(Number);
    const points = flat.flatMap((value, i) => (i % 2 ? [] : [[value, flat[i + 1]]]));
    const sound = flat.length > 5 && flat.length % 2 === 0 && flat.every(Number.isFinite);
    if (sound && [x, y].every((name) => this.columns.names.includes(name))) this.area = { x, y, log: [across === 1, up === 1], points };
    if (this.active) this.apply();
  }

  get active() {
    return this.hidden.size > 0 || this.area !== null || Object.keys(this.ranges).length > 0 || Object.keys(this.levels).length > 0;
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
    if (!published && !Object.entries(this.levels).every(([name, places]) => places.has(choices[name].codes[row]))) return false;
    return published || this.area === null || inside(this.area, this.columns.get(this.area.x).values[row], this.columns.get(this.area.y).values[row]);
  }

  // Returns a trace with only the points that are kept. Points name their rows in customdata.
  trace(trace) {
    if (!this.active || !Array.isArray(trace.customdata)) return trace;
    const kept = trace.customdata.map((row) => this.keeps(row)), pick = (list) => list.filter((_, i) => kept[i]);
    const result = { ...trace };
    for (const key of ["x", "y", "customdata", "text", "hovertext"]) if (Array.isArray(trace[key])) result[key] = pick(trace[key]);
    for (const key of ["error_x", "error_y"]) if (trace[key]) result[key] = { ...trace[key], array: pick(trace[key].array) };
    return result;
  }
}
