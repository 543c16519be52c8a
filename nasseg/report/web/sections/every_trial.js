// Every trial in a table that sorts and filters. It stays fast with thousands, because only rows in sight are elements.

import { byId, el } from "../lib/dom.js";
import { unpack } from "../lib/load.js";
import { section } from "../lib/sections.js";
import { matcher } from "../lib/terms.js";
import { number } from "../lib/words.js";

const HEIGHT = 31, SPARE = 12; // of a row, as in page.css; rows beyond the window

section("trials", (columns, { data, filter, open, toggle }) => {
  const box = byId("trials-box");
  if (!box) return {};
  let table = null;
  const begin = new IntersectionObserver(async ([{ isIntersecting }]) => {
    if (!isIntersecting) return;
    begin.disconnect();
    const { trials } = JSON.parse(await unpack("trials-file"));
    table = new Trials(box, columns, trials, { data, filter, open, toggle });
  }, { rootMargin: "500px" });
  begin.observe(box);
  return { draw: () => table?.choose(), mark: (compared) => table?.mark(compared) };
});

class Trials {
  constructor(box, { first, figures, params, last }, { columns, data }, page) {
    const units = new Map(figures.map(([name, , unit]) => [name, unit])), labels = new Map(figures.map(([name, label]) => [name, label]));
    const names = [...first, ...figures.map(([name]) => name), ...params, ...last].filter((name) => columns.includes(name));
    this.columns = names.map((name) => ({
      name, at: columns.indexOf(name), label: `${labels.get(name) ?? name}${units.get(name) ? `, ${units.get(name)}` : ""}`,
      number: data.some((row) => typeof row[columns.indexOf(name)] === "number"),
    }));
    Object.assign(this, { box, page, all: data, names: columns, compared: [], sorted: null, falling: false, rows: [], finished: new Set(page.data.rows.finished) });
    const places = new Map(page.data.rows.keys.map((key, row) => [key, row])), study = columns.indexOf("study"), id = columns.indexOf("number");
    this.rowOf = (trial) => places.get(`${study < 0 ? "" : trial[study]}${trial[id]}`);
    this.build();
    byId("trials-find").addEventListener("input", () => this.choose());
    this.choose();
  }

  build() {
    this.body = el("tbody");
    const widths = this.columns.map((column) => el("col", { style: `width: ${this.width(column)}ch` }));
    this.heads = this.columns.map((column) => {
      const button = el("button", { type: "button" }, column.label);
      button.addEventListener("click", () => this.sort(column));
      return el("th", { scope: "col", class: column.number ? "number" : "" }, button);
    });
    this.table = el("table", { "aria-rowcount": this.all.length + 1 }, el("colgroup", {}, el("col", { style: "width: 4ch" }), ...widths), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, el("span", { class: "heard" }, "Compare")), ...this.heads)), this.body);
    this.box.replaceChildren(this.table);
    this.box.addEventListener("scroll", () => (this.waiting ??= requestAnimationFrame(() => ((this.waiting = null), this.draw()))));
    this.box.addEventListener("keydown", (event) => this.walk(event));
    this.body.addEventListener("click", ({ target }) => {
      const line = target.closest("tr[data-at]");
      if (!line) return;
      const row = this.rowOf(this.rows[Number(line.dataset.at)]);
      if (row === undefined) return;
      if (target.matches("input")) this.page.toggle(row);
      else if (!String(getSelection())) this.page.open(row, true);
    });
  }

  // Arrows go from row to row, Enter opens a row, Space compares it. So thousands of rows are one stop of the Tab key.
  walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, Home: -Infinity, End: Infinity }[event.key], row = this.rows[this.at] && this.rowOf(this.rows[this.at]);
    if (event.target !== this.box || !(step || [" ", "Enter"].includes(event.key))) return;
    event.preventDefault();
    if (!step) return row === undefined ? null : event.key === "Enter" ? this.page.open(row, true) : this.page.toggle(row);
    this.at = Math.max(0, Math.min(this.rows.length - 1, (this.at ?? -1) + step));
    const top = this.at * HEIGHT, room = this.box.clientHeight - 2 * HEIGHT;
    this.box.scrollTop = Math.min(top, Math.max(this.box.scrollTop, top - room));
    this.draw();
    byId("mark").textContent = this.body.querySelector(".chosen")?.textContent ?? "";
  }

  // A column's width in characters: that of the longest in an even sample of its texts.
  width(column) {
    const step = Math.max(1, Math.floor(this.all.length / 200)), sample = this.all.filter((_, i) => i % step === 0);
    const longest = Math.max(column.label.length + 3, ...sample.map((trial) => this.text(column, trial).length));
    return Math.min(longest, column.name === "reason" ? 60 : 40) + 3;
  }

  text(column, trial) {
    const value = trial[column.at];
    if (value === null || value === undefined) return "";
    return typeof value === "boolean" ? (value ? "yes" : "no") : column.name === "number" ? `#${value}` : typeof value === "number" ? number(value) : Array.isArray(value) ? `(${value.join(", ")})` : String(value);
  }

  // The trials that the search box and the page's filter keep.
  choose() {
    const field = byId("trials-find"), { test, problem } = matcher(field.value, this.names);
    field.setAttribute("aria-invalid", Boolean(problem));
    const { filter } = this.page, kept = (trial) => {
      const row = this.rowOf(trial);
      return this.finished.has(row) && filter.keeps(row);
    };
    this.rows = problem ? [] : this.all.filter((trial) => test(trial) && (!filter.active || kept(trial)));
    byId("trials-count").textContent = problem || `${this.rows.length.toLocaleString("en")} of ${this.all.length.toLocaleString("en")}`;
    this.order();
  }

  sort(column) {
    this.falling = this.sorted === column ? !this.falling : false;
    this.sorted = column;
    this.heads.forEach((head, i) => {
      if (this.columns[i] === column) head.setAttribute("aria-sort", this.falling ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.order();
  }

  order() {
    if (this.sorted) {
      const { at } = this.sorted, sign = this.falling ? -1 : 1, known = (trial) => trial[at] !== null && trial[at] !== undefined;
      const before = (a, b) => (a[at] < b[at] ? -1 : a[at] > b[at] ? 1 : 0);
      this.rows.sort((a, b) => known(b) - known(a) || sign * before(a, b)); // unknown ones last, whichever way
    }
    this.box.scrollTop = 0;
    this.at = null;
    this.draw();
  }

  mark(compared) {
    this.compared = compared;
    this.draw();
  }

  draw() {
    const from = Math.max(0, Math.floor(this.box.scrollTop / HEIGHT) - SPARE), to = Math.min(this.rows.length, from + Math.ceil(this.box.clientHeight / HEIGHT) + 2 * SPARE);
    const room = (rows) => (rows > 0 ? [el("tr", { style: `height: ${rows * HEIGHT}px`, "aria-hidden": "true" }, el("td", { colspan: this.columns.length + 1 }))] : []);
    const lines = this.rows.slice(from, to).map((trial, i) => this.line(trial, from + i));
    this.body.replaceChildren(...room(from), ...lines, ...room(this.rows.length - to));
  }

  line(trial, at) {
    const row = this.rowOf(trial), cells = this.columns.map((column) => {
      const text = this.text(column, trial);
      const shown = column.name === "number" && row !== undefined ? el("a", { href: `#trial-${this.page.data.rows.keys[row]}`, tabindex: -1 }, text) : text;
      return el("td", { class: column.number ? "number" : "", title: text }, shown);
    });
    const pick = row === undefined ? "" : el("input", { type: "checkbox", tabindex: -1, "aria-label": `Compare ${this.page.data.rows.keys[row]}` });
    if (pick) pick.checked = this.compared.includes(row);
    return el("tr", { "data-at": at, "aria-rowindex": at + 2, class: at === this.at ? "chosen" : "" }, el("td", {}, pick), ...cells);
  }
}
