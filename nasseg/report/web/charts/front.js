import { placeLabels } from "./labels.js";
import { spaceOf } from "./space.js";
import { byId } from "../lib/dom.js";

// The chart of the front: two axes, what the filter keeps, chosen rows, a budget, and the ranges drawn first, which a
// choice must not move.
export class Front {
  constructor(data, filter, budget) {
    Object.assign(this, { data, filter, budget, node: byId("front"), chosen: [], compared: [], ranges: null });
    this.letters = ["x", "y", "z"].filter((letter) => byId(`${letter}-axis`));
    for (const letter of this.letters) {
      byId(`${letter}-axis`).addEventListener("change", () => this.changeAxis(letter));
      byId(`${letter}-log`).addEventListener("change", () => this.draw(true));
    }
    this.axes = this.read();
    this.draw(true);
  }

  read() {
    return Object.fromEntries(this.letters.map((letter) => [letter, byId(`${letter}-axis`).value]));
  }

  // The same figure on two axes says nothing: the other axis takes the figure that was here, or one that no axis shows.
  changeAxis(letter) {
    if (letter === "z") {
      const able = document.createElement("canvas").getContext("webgl");
      byId("go-message").textContent = able ? "" : "This browser cannot draw in three dimensions: its WebGL is off.";
      if (!able) byId("z-axis").value = "";
    }
    const now = this.read(), twin = this.letters.find((l) => l !== letter && now[l] === now[letter]);
    if (twin) now[twin] = this.axes[letter] || Object.keys(this.data.directions).find((name) => !Object.values(now).includes(name));
    for (const l of this.letters) {
      byId(`${l}-axis`).value = now[l];
      if (now[l] !== this.axes[l]) byId(`${l}-log`).checked = Boolean(this.data.log[now[l]]);
    }
    this.axes = now;
    this.draw(true);
  }

  draw(afresh) {
    const figure = this.data.fronts[this.axes.x][this.axes.y];
    if (afresh) this.ranges = null;
    if (this.axes.z) return this.drawSpace(figure);
    const traces = figure.data.map((trace) => this.trace(trace, figure));
    const axis = (letter) => ({
      ...figure.layout[`${letter}axis`],
      ...(byId(`${letter}-log`).checked ? { type: "log", dtick: logTicks(traces, letter) } : { type: "linear" }),
      ...(this.ranges ? { range: this.ranges[letter].slice(), autorange: false } : {}),
    });
    const view = `${this.axes.x} ${byId("x-log").checked} ${this.axes.y} ${byId("y-log").checked}`;
    const layout = { ...figure.layout, xaxis: axis("x"), yaxis: axis("y"), showlegend: false, uirevision: view };
    layout.shapes = this.shapes();
    layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
    const shown = Plotly.react(this.node, traces, layout, this.data.config);
    return shown.then(() => {
      const { xaxis, yaxis } = this.node.layout;
      this.ranges ??= { x: xaxis.range.slice(), y: yaxis.range.slice() };
      placeLabels(this);
    });
  }

  drawSpace(figure) {
    const third = this.data.fronts[this.axes.z][this.axes.x].layout.xaxis;
    const layouts = { x: figure.layout.xaxis, y: figure.layout.yaxis, z: third };
    const [traces, scene] = spaceOf(this, figure.data.map((trace) => this.trace(trace, figure)), layouts);
    const { font, hoverlabel, modebar, paper_bgcolor } = figure.layout;
    const layout = { font, hoverlabel, modebar, paper_bgcolor, scene, showlegend: false, margin: { l: 0, r: 0, t: 26, b: 0 } };
    return Plotly.react(this.node, traces, layout, this.data.config);
  }

  trace(trace, figure) {
    if (trace.meta === "selected") return { ...trace, ...this.at(figure) };
    if (trace.meta === "steps") {
      const shown = { ...trace, visible: !this.filter.hidden.has(trace.legendgroup) };
      return this.filter.active ? { ...shown, ...this.steps(trace.legendgroup) } : shown;
    }
    const group = trace.meta === "published" ? "published" : trace.legendgroup;
    const kept = this.filter.trace(trace);
    const text = trace.meta === "trials" ? kept.customdata.map((row) => this.data.hover[row]) : kept.text;
    return { ...kept, text, visible: !this.filter.hidden.has(group) };
  }

  at(figure) {
    const found = this.chosen.flatMap((row) => {
      for (const trace of figure.data) {
        const i = trace.meta === "steps" ? -1 : trace.customdata.indexOf(row), place = this.compared.indexOf(row);
        if (i >= 0) return [[trace.x[i], trace.y[i], place < 0 ? "" : `<b>${place + 1}</b>`]];
      }
      return [];
    });
    const [x, y, text] = [0, 1, 2].map((i) => found.map((point) => point[i]));
    return { x, y, text, mode: "markers+text", textposition: "top right", textfont: { size: 14 } };
  }

  // The best trade-off of the two objectives among what the filter keeps, in a group if there is a line for each.
  steps(group) {
    const { rows, directions } = this.data, { x, y } = this.axes;
    const sign = (name) => (directions[name] === "maximize" ? -1 : 1);
    const at = (name, row) => rows.figures[name]?.values[row];
    const mine = (row) => group === undefined || String(rows.groups[row]) === group;
    const usable = (row) => mine(row) && !(row in rows.over) && this.filter.keeps(row) && Number.isFinite(at(x, row)) && Number.isFinite(at(y, row));
    const order = (a, b) => sign(x) * (at(x, a) - at(x, b)) || sign(y) * (at(y, a) - at(y, b));
    const best = [];
    if (directions[x] && directions[y]) {
      for (const row of rows.finished.filter(usable).sort(order)) {
        const last = best[best.length - 1];
        if (last === undefined || sign(y) * (at(y, row) - at(y, last)) < 0) best.push(row);
      }
    }
    best.sort((a, b) => at(x, a) - at(x, b));
    return { x: best.map((row) => at(x, row)), y: best.map((row) => at(y, row)), customdata: best };
  }

  shapes() {
    const shapes = this.data.fronts[this.axes.x][this.axes.y].layout.shapes ?? [];
    const letter = ["x", "y"].find((l) => this.budget && this.axes[l] === this.budget[0]);
    if (!letter) return shapes;
    const other = letter === "x" ? "y" : "x", value = this.budget[1];
    const line = { type: "line", layer: "between", line: { color: "#00649e", width: 1.6 }, [`${other}ref`]: "paper" };
    const label = { text: "budget", textposition: letter === "x" ? "end" : "start", textangle: 0, font: { size: 11, color: "#00649e" } };
    Object.assign(label, { xanchor: letter === "x" ? "right" : "left", yanchor: letter === "x" ? "top" : "bottom" });
    return [...shapes, { ...line, [`${letter}0`]: value, [`${letter}1`]: value, [`${other}0`]: 0, [`${other}1`]: 1, label }];
  }

  // Once a frame at most: a slider moves faster than a chart of thousands of marks.
  setBudget(figure, value) {
    const before = this.budget && this.budget[0];
    this.budget = [figure, value];
    if (this.axes.z || ![before, figure].some((name) => Object.values(this.axes).includes(name)) || this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      Plotly.relayout(this.node, { shapes: this.shapes() });
    });
  }

  // Rings around marks; those that are compared are numbered.
  choose(rows, compared) {
    this.chosen = [...rows.filter((row) => !compared.includes(row)), ...compared];
    this.compared = compared;
    this.draw(false);
  }
}

// Ticks of a log axis that do not run into each other: 1 to 9 over a short range, 1, 2, 5 over a longer one.
function logTicks(traces, letter) {
  const values = traces.flatMap((trace) => trace[letter]).filter((value) => value > 0);
  const decades = Math.log10(Math.max(...values) / Math.min(...values));
  return decades < 0.6 ? "D1" : decades < 4 ? "D2" : 1;
}
