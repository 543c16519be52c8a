// Networks side by side: what differs between them and by how much, how they were trained, how they are built.

import { COLOURS, curves } from "./curve.js";
import { scheduleDiagram, stageDiagram } from "./diagram.js";
import { isDrawable, topologyDiagram } from "./topology.js";
import { byId, el } from "../lib/dom.js";
import { comparedPredictions } from "./predictions.js";

export class Compare {
  // better: name of a figure -> 1 if more of it is better, -1 if less is.
  constructor(details, better, changed) {
    Object.assign(this, { details, better, changed, rows: [], node: byId("compare"), everything: false });
  }

  toggle(row) {
    const at = this.rows.indexOf(row);
    if (at >= 0) this.rows.splice(at, 1);
    else this.rows.push(row);
    if (this.rows.length > 6) this.rows.shift(); // more columns cannot be read
    this.draw();
    this.changed();
  }

  // [group, name, texts, better]: one text for each network, "–" if it has none.
  lines() {
    const found = new Map();
    const add = (group, name, column, text, better = 0) => {
      const key = JSON.stringify([group, name]);
      if (!found.has(key)) found.set(key, [group, name, this.rows.map(() => "–"), better]);
      found.get(key)[2][column] = text;
    };
    this.rows.forEach((row, column) => {
      const detail = this.details[row];
      add("", "outcome", column, detail.state);
      for (const [name, text] of detail.arch) add("Architecture", name, column, text);
      const groups = detail.groups.length > 1 ? detail.groups.filter(({ title }) => title !== "Objectives") : detail.groups; // they come again
      for (const group of groups) for (const [name, text] of group.figures) add(group.title, name, column, text, this.better[name]);
      for (const [name, iou] of detail.iou ?? []) add("IoU by class", name, column, iou === null ? "absent" : `${iou.toFixed(1)} %`, 1);
    });
    return [...found.values()];
  }

  draw() {
    this.node.hidden = this.rows.length === 0;
    if (this.node.hidden) return this.node.replaceChildren();
    const lines = this.lines(), same = ([, , texts]) => this.rows.length > 1 && texts.every((text) => text === texts[0]);
    const body = [];
    let last = "";
    for (const line of lines) {
      if (same(line) && !this.everything) continue;
      const [group, name, texts, better] = line;
      if (group !== last) body.push(el("tr", { class: "group" }, el("th", { colspan: this.rows.length + 1, scope: "colgroup" }, group)));
      last = group;
      body.push(el("tr", {}, el("th", { scope: "row" }, name), ...cells(texts, better)));
    }
    const table = el("table", {}, el("thead", {}, el("tr", {}, el("td"), ...this.heads())), el("tbody", {}, ...body));
    const n = lines.filter(same).length, box = el("input", { type: "checkbox" });
    box.checked = this.everything;
    box.addEventListener("change", () => ((this.everything = box.checked), this.draw()));
    const more = n ? el("label", { class: "control" }, box, ` Also show what is the same in all (${n})`) : "";
    const alone = this.rows.length < 2;
    const hint = alone ? "Choose another network to see the differences side by side." : "The best of each line is bold. Small figures are differences from the first network.";
    const titles = Object.fromEntries(this.rows.map((row) => [row, this.details[row].title])), seen = el("div");
    comparedPredictions(this.rows, titles).then((shown) => seen.replaceChildren(...shown));
    this.node.replaceChildren(el("h3", {}, "Side by side"), el("p", { class: "note" }, hint), seen, el("div", { class: "scroll", tabindex: 0 }, table), more, ...(alone ? [] : this.pictures()));
  }

  heads() {
    return this.rows.map((row, i) => {
      const { title, key } = this.details[row], close = el("button", { type: "button", "aria-label": `Remove ${title}` }, "×");
      close.addEventListener("click", () => this.toggle(row));
      const link = key === undefined ? title : el("a", { href: `#trial-${key}` }, title);
      return el("th", { scope: "col" }, number(i), link, " ", close);
    });
  }

  // Curves in one chart, and the drawings in a row.
  pictures() {
    const overlay = (key, title, name, marks) => {
      const known = this.rows.flatMap((row, i) => {
        const points = this.details[row][key] ?? [];
        return points.length > 1 ? [{ points, colour: COLOURS[i], label: String(i + 1) }] : [];
      });
      return known.length > 1 ? [el("div", {}, el("h4", {}, title), curves(known, name, marks))] : [];
    };
    const charts = [...overlay("rungs", "mIoU at their rungs, %", "mIoU", true), ...overlay("curve", "Training loss", "loss", false)];
    const drawn = this.rows.map((row, i) => {
      const detail = this.details[row], stages = detail.stages?.some((stage) => stage[0]) ? [stageDiagram(detail)] : [];
      return el("div", {}, el("h4", {}, number(i), detail.title), ...stages, isDrawable(detail.blocks) ? topologyDiagram(detail.blocks) : null, ...(detail.schedules ?? []).flatMap(scheduleDiagram));
    });
    return [charts.length ? el("div", { class: "halves drawn" }, ...charts) : "", drawn.some((one) => one.children.length > 1) ? el("div", { class: "row drawn" }, ...drawn) : ""];
  }
}

// The number at the network's ring in the chart.
const number = (i) => el("span", { class: "ring", style: `border-color: ${COLOURS[i]}` }, String(i + 1));

// A line's texts; the best is bold, and each after the first says how far it is from the first.
function cells(texts, better) {
  const values = better ? texts.map(valueOf) : [], known = values.filter((value) => value !== null);
  const best = known.length > 1 && new Set(known).size > 1 ? Math.max(...known.map((value) => better * value)) : null;
  return texts.map((text, i) => {
    const away = i && better && values[i] !== null && values[0] !== null && values[i] !== values[0] ? difference(values[i], values[0], text) : "";
    const cell = el("td", {}, text, away && el("small", {}, ` ${away}`));
    if (best !== null && values[i] !== null && better * values[i] === best) cell.classList.add("best");
    return cell;
  });
}

// The number that a text begins with, as in 13.25 ms or 4.914 G; null if it begins with none.
function valueOf(text) {
  const found = /^(-?[\d.,]+(?:e[-+]?\d+)?)(?: ([kMGT])(?=B?$))?/.exec(text);
  return found && Number.isFinite(Number(found[1].replaceAll(",", ""))) ? Number(found[1].replaceAll(",", "")) * 1000 ** " kMGT".indexOf(found[2] ?? " ") : null;
}

// The difference of two percentages is in points, any other in percent.
function difference(value, first, text) {
  const points = / %$/.test(text), by = points ? value - first : (100 * (value - first)) / Math.abs(first);
  const size = Math.abs(by).toLocaleString("en", { maximumSignificantDigits: 3, maximumFractionDigits: 2, roundingPriority: "lessPrecision" });
  return `${by < 0 ? "−" : "+"}${size}${points ? "" : " %"}`;
}
