// Shows networks side by side: what differs between them, and on demand what does not.

import { byId, el } from "../lib/dom.js";
import { comparedPredictions } from "./predictions.js";

export class Compare {
  constructor(details, changed) {
    Object.assign(this, { details, changed, rows: [], node: byId("compare"), everything: false });
  }

  toggle(row) {
    const at = this.rows.indexOf(row);
    if (at >= 0) this.rows.splice(at, 1);
    else this.rows.push(row);
    if (this.rows.length > 6) this.rows.shift(); // more columns cannot be read
    this.draw();
    this.changed();
  }

  // [group, name, texts]: one text a network, "–" where it has none.
  lines() {
    const found = new Map();
    const add = (group, name, column, text) => {
      const key = JSON.stringify([group, name]);
      if (!found.has(key)) found.set(key, [group, name, this.rows.map(() => "–")]);
      found.get(key)[2][column] = text;
    };
    this.rows.forEach((row, column) => {
      const detail = this.details[row];
      add("", "outcome", column, detail.state);
      for (const [name, text] of detail.arch) add("Architecture", name, column, text);
      const groups = detail.groups.length > 1 ? detail.groups.filter(({ title }) => title !== "Objectives") : detail.groups; // they come again
      for (const group of groups) for (const [name, text] of group.figures) add(group.title, name, column, text);
      for (const [name, iou] of detail.iou ?? []) add("IoU by class, %", name, column, iou === null ? "absent" : iou.toFixed(1));
    });
    return [...found.values()];
  }

  draw() {
    this.node.hidden = this.rows.length === 0;
    if (this.node.hidden) return this.node.replaceChildren();
    const close = (row) => {
      const button = el("button", { type: "button", "aria-label": `Remove ${this.details[row].title}` }, "×");
      button.addEventListener("click", () => this.toggle(row));
      return button;
    };
    const link = ({ title, key }) => (key === undefined ? title : el("a", { href: `#trial-${key}` }, title));
    const heads = this.rows.map((row) => el("th", { scope: "col" }, link(this.details[row]), " ", close(row)));
    const lines = this.lines(), same = ([, , texts]) => this.rows.length > 1 && texts.every((text) => text === texts[0]);
    const body = [];
    let last = "";
    for (const line of lines) {
      if (same(line) && !this.everything) continue;
      const [group, name, texts] = line;
      if (group !== last) body.push(el("tr", { class: "group" }, el("th", { colspan: this.rows.length + 1, scope: "colgroup" }, group)));
      last = group;
      body.push(el("tr", {}, el("th", { scope: "row" }, name), ...texts.map((text) => el("td", {}, text))));
    }
    const table = el("table", {}, el("thead", {}, el("tr", {}, el("td"), ...heads)), el("tbody", {}, ...body));
    const n = lines.filter(same).length, box = el("input", { type: "checkbox" });
    box.checked = this.everything;
    box.addEventListener("change", () => ((this.everything = box.checked), this.draw()));
    const more = n ? el("label", { class: "control" }, box, ` Show also what is the same in all (${n})`) : "";
    const hint = this.rows.length < 2 ? el("p", { class: "note" }, "Choose another network to see the differences side by side.") : "";
    const titles = Object.fromEntries(this.rows.map((row) => [row, this.details[row].title])), pictures = el("div");
    comparedPredictions(this.rows, titles).then((shown) => pictures.replaceChildren(...shown));
    this.node.replaceChildren(el("h3", {}, "Side by side"), hint, pictures, el("div", { class: "scroll", tabindex: 0 }, table), more);
  }
}
