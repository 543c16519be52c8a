import { aroundOne, lines, logTicks } from "./columns.js";
import { placeLabels } from "./labels.js";
import { spaceOf } from "./space.js";
import { byId } from "../lib/dom.js";
import { remember, setting } from "../lib/fragment.js";
import { draw, themed } from "../lib/theme.js";

const BARE = { x: [], y: [], customdata: [] };

// The chart of the front: two or three columns, what the filter keeps, a colour, chosen rows and a budget. It keeps the
// ranges that it drew first, so that choosing a network does not move the chart.
export class Front {
  constructor(data, columns, filter, budget, answer) {
    Object.assign(this, { data, columns, filter, budget, answer, node: byId("front"), chosen: [], compared: [], ranges: null, selections: 0 });
    this.letters = ["x", "y", "z"].filter((letter) => byId(`${letter}-axis`));
    this.first = this.read();
    for (const letter of this.letters) {
      const select = byId(`${letter}-axis`), log = byId(`${letter}-log`), known = columns.names.includes(setting(letter));
      if (known) [select.value, log.checked] = [setting(letter), columns.get(setting(letter)).log];
      if (setting(`${letter}log`)) log.checked = setting(`${letter}log`) === "1";
      select.addEventListener("change", () => this.changeAxis(letter));
      log.addEventListener("change", () => this.draw(true));
    }
    if (columns.names.includes(setting("colour"))) byId("colour").value = setting("colour");
    byId("colour").addEventListener("change", () => this.draw(false));
    this.axes = this.read();
    this.drawn = this.draw(true).then(() => {
      this.node.on("plotly_relayout", () => this.zoomed());
      addEventListener("redrawn", () => placeLabels(this));
      this.node.on("plotly_selected", (event) => event && this.select(event));
    });
  }

  read() {
    return Object.fromEntries(this.letters.map((letter) => [letter, byId(`${letter}-axis`).value]));
  }

  column(letter) {
    return this.columns.get(this.axes[letter]);
  }

  isLog(letter) {
    return byId(`${letter}-log`).checked && !this.column(letter).levels;
  }

  // One figure on two axes would say nothing. So the other axis takes the figure that was here, or one that no axis shows.
  changeAxis(letter) {
    if (letter === "z") {
      const able = document.createElement("canvas").getContext("webgl");
      byId("go-message").textContent = able ? "" : "This browser cannot draw in three dimensions: its WebGL is off.";
      if (!able) byId("z-axis").value = "";
    }
    const now = this.read(), twin = this.letters.find((l) => l !== letter && now[l] === now[letter]);
    if (twin) now[twin] = this.axes[letter] || this.columns.names.find((name) => !Object.values(now).includes(name));
    for (const l of this.letters) {
      byId(`${l}-axis`).value = now[l];
      if (now[l] !== this.axes[l]) byId(`${l}-log`).checked = now[l] !== "" && this.columns.get(now[l]).log;
    }
    this.axes = now;
    this.draw(true);
  }

  // What differs from the page as it opens.
  remember() {
    const own = (letter) => (this.axes[letter] ? this.column(letter).log : false);
    const chosen = this.letters.map((letter) => [letter, this.axes[letter] === this.first[letter] ? null : this.axes[letter]]);
    const logs = this.letters.map((letter) => [`${letter}log`, byId(`${letter}-log`).checked === own(letter) ? null : Number(!own(letter))]);
    remember({ ...Object.fromEntries([...chosen, ...logs]), colour: byId("colour").value });
  }

  draw(afresh) {
    this.remember();
    if (afresh) this.ranges = null;
    const traces = this.data.front.data.map((trace) => this.trace(trace));
    if (this.axes.z) return this.drawSpace(traces);
    const view = `${this.axes.x} ${this.isLog("x")} ${this.axes.y} ${this.isLog("y")}`;
    const axes = { xaxis: this.axis("x", traces), yaxis: this.axis("y", traces) };
    const layout = { ...this.data.front.layout, ...axes, ...this.scale(), shapes: this.shapes(), showlegend: false, uirevision: view };
    Object.assign(layout, { selections: [], selectionrevision: ++this.selections });
    layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
    return draw(this.node, traces, layout, this.data.config).then(() => {
      const { xaxis, yaxis } = this.node.layout;
      this.ranges ??= { x: xaxis.range.slice(), y: yaxis.range.slice() };
      this.showKey();
      placeLabels(this);
    });
  }

  // The key explains only what is drawn.
  showKey() {
    const traces = this.node.data.filter(({ visible, customdata }) => visible !== false && customdata.length);
    const has = (test) => traces.some(test), shapes = this.node.layout.shapes ?? [];
    const marks = (test) => has((trace) => trace.meta === "trials" && test(trace.marker));
    const drawn = {
      front: marks(({ opacity }) => opacity === 1),
      dominated: marks(({ opacity, symbol }) => opacity < 1 && !symbol.endsWith("-open")),
      over: marks(({ symbol }) => symbol.endsWith("-open")),
      steps: has(({ meta }) => meta === "steps"),
      spread: has(({ error_x, error_y }) => [error_x, error_y].some((spread) => spread?.array.some((half) => half > 0))),
      limit: shapes.some(({ line }) => line.dash),
      budget: shapes.some(({ line }) => !line.dash),
      answer: has(({ meta }) => meta === "answer"),
    };
    for (const entry of document.querySelectorAll("#key [data-part]")) entry.hidden = !drawn[entry.dataset.part];
    const steps = document.querySelector("#key [data-part=steps] span");
    if (steps) steps.textContent = this.axes.x === "number" ? "best so far" : "best trade-off of these two";
  }

  axis(letter, traces) {
    const column = this.column(letter), shown = this.node.layout?.[`${letter}axis`]?.range;
    const room = (letter === "x" ? this.node.clientWidth : this.node.clientHeight) - 90;
    const title = { text: lines(column.title, Math.max(16, Math.floor(room / 8))), font: { size: 14 } };
    const layout = { ...this.data.front.layout[`${letter}axis`], ...column.layout, title };
    if (this.ranges) Object.assign(layout, { range: this.ranges[letter].slice(), autorange: false });
    if (!this.isLog(letter)) return { ...layout, type: "linear", ...(layout.range ? {} : aroundOne(traces.flatMap((trace) => trace[letter]))) };
    const values = traces.flatMap((trace) => trace[letter]).filter((value) => value > 0);
    const ends = this.ranges && shown ? shown.map((end) => 10 ** end) : [Math.min(...values) * 0.9, Math.max(...values) * 1.1];
    return { ...layout, type: "log", ...(values.length ? logTicks(...ends) : {}) };
  }

  // After a zoom: ticks for what is shown, and names where there is room.
  zoomed() {
    if (this.axes.z) return;
    const changes = {};
    for (const letter of ["x", "y"]) {
      const { type, range, tickvals } = this.node.layout[`${letter}axis`];
      if (type !== "log") continue;
      const ticks = logTicks(...range.map((end) => 10 ** end));
      if (String(ticks.tickvals) === String(tickvals)) continue;
      for (const [key, value] of Object.entries(ticks)) changes[`${letter}axis.${key}`] = value;
    }
    if (Object.keys(changes).length) Plotly.relayout(this.node, changes);
    else placeLabels(this);
  }

  drawSpace(traces) {
    const layouts = Object.fromEntries(this.letters.map((letter) => [letter, this.column(letter).layout]));
    const [drawn, scene] = spaceOf(this, traces, layouts);
    const { font, hoverlabel, modebar, paper_bgcolor } = this.data.front.layout;
    const layout = { font, hoverlabel, modebar, paper_bgcolor, scene, ...this.scale(), showlegend: false, margin: { l: 0, r: 0, t: 26, b: 0 } };
    return draw(this.node, drawn, layout, this.data.config);
  }

  trace(trace) {
    const { filter, data } = this, { rows, hover, halves } = data;
    if (trace.meta === "selected") return { ...trace, ...this.rings() };
    if (trace.meta === "answer") return { ...trace, ...this.points(this.answered()) };
    if (trace.meta === "steps") return { ...trace, ...this.steps(trace), visible: !filter.hidden.has(trace.legendgroup) };
    const kept = { ...trace, ...this.points(trace.customdata.filter((row) => filter.keeps(row))) };
    kept.visible = !filter.hidden.has(trace.meta === "published" ? "published" : trace.legendgroup);
    const said = kept.customdata.map((row) => hover[row]);
    if (trace.meta === "published") return { ...kept, text: kept.customdata.map((row) => trace.text[row - rows.keys.length]), hovertext: said };
    if (trace.marker.opacity === 1) {
      for (const letter of ["x", "y"]) {
        const array = halves[this.axes[letter]];
        if (array) kept[`error_${letter}`] = { type: "data", array: kept.customdata.map((row) => array[row] ?? 0), color: trace.marker.color, thickness: 1.2, width: 0 };
      }
    }
    return { ...kept, text: said, marker: { ...trace.marker, ...this.colours(trace, kept.customdata) } };
  }

  // Rings around chosen marks. Those that are compared are numbered.
  rings() {
    const { rows } = this.data, found = this.points(this.chosen.filter((row) => row >= rows.keys.length || rows.finished.includes(row)));
    const text = found.customdata.map((row) => (this.compared.includes(row) ? `<b>${this.compared.indexOf(row) + 1}</b>` : ""));
    return { ...found, text, mode: "markers+text", textposition: "top right", textfont: { size: 14, color: "#1d2733" } };
  }

  // Those of the rows for which both columns are known.
  points(rows) {
    const [x, y] = [this.column("x").values, this.column("y").values];
    const known = rows.filter((row) => Number.isFinite(x[row]) && Number.isFinite(y[row]));
    return { x: known.map((row) => x[row]), y: known.map((row) => y[row]), customdata: known };
  }

  answered() {
    return this.answer === undefined ? [] : [this.answer];
  }

  // Colours by a column. Edges then have one colour for all groups.
  colours({ marker }, rows) {
    if (!byId("colour").value) return {};
    const { log, values } = this.columns.get(byId("colour").value);
    return { color: rows.map((row) => (log && values[row] > 0 ? Math.log10(values[row]) : (values[row] ?? null))), coloraxis: "coloraxis", line: { ...marker.line, color: "#5d6977" } };
  }

  // The colour bar of a column.
  scale() {
    if (!byId("colour").value) return {};
    const { log, values, title, levels, layout } = this.columns.get(byId("colour").value);
    const known = this.data.rows.finished.map((row) => values[row]).filter(Number.isFinite);
    const ends = levels ? layout.range : [Math.min(...known), Math.max(...known)], place = log ? Math.log10 : (value) => value;
    const bar = { title: { text: lines(title, 50), side: "right", font: { size: 12 } }, thickness: 12, outlinewidth: 0, tickfont: { size: 11 } };
    if (levels) Object.assign(bar, { tickvals: layout.tickvals, ticktext: layout.ticktext });
    else if (log) Object.assign(bar, { tickvals: logTicks(...ends).tickvals.map(place), ticktext: logTicks(...ends).ticktext });
    else bar.tickformat = layout.tickformat;
    return { coloraxis: { colorscale: "Viridis", cmin: place(ends[0]), cmax: place(ends[1]), colorbar: bar } };
  }

  // The best trade-off of two objectives among what the filter keeps, within a group if each has its line. Over the
  // trial's number, it is the best so far.
  steps({ legendgroup: group, line }) {
    const { rows } = this.data, x = this.column("x"), y = this.column("y");
    const sign = (column) => ({ minimize: 1, maximize: -1 })[column.name === "number" ? "minimize" : column.direction];
    if (!sign(x) || !y.direction || rows.unfinished) return BARE;
    const mine = (row) => group === undefined || String(rows.groups[row]) === group;
    const usable = (row) => mine(row) && !(row in rows.over) && this.filter.keeps(row) && Number.isFinite(x.values[row]) && Number.isFinite(y.values[row]);
    const kept = rows.finished.filter(usable), best = [];
    const order = (a, b) => sign(x) * (x.values[a] - x.values[b]) || sign(y) * (y.values[a] - y.values[b]);
    for (const row of kept.sort(order)) {
      const last = best[best.length - 1];
      if (last === undefined || sign(y) * (y.values[row] - y.values[last]) < 0) best.push(row);
    }
    best.sort((a, b) => x.values[a] - x.values[b]);
    const found = { ...this.points(best), line: { ...line, shape: x.direction === "maximize" ? "vh" : "hv" } };
    if (x.name === "number" && kept.length) {
      found.x.push(x.values[kept[kept.length - 1]]);
      found.y.push(found.y[found.y.length - 1]);
    }
    return found;
  }

  shapes() {
    const shapes = ["x", "y"].flatMap((letter) => this.column(letter).limits[letter]);
    const letter = ["x", "y"].find((l) => this.budget && this.axes[l] === this.budget[0]);
    if (!letter) return shapes;
    const other = letter === "x" ? "y" : "x", value = this.budget[1];
    const line = { type: "line", layer: "above", line: { color: "#00649e", width: 1.6 }, [`${other}ref`]: "paper" };
    const label = { text: "budget", textposition: letter === "x" ? "start" : "end", textangle: 0, font: { size: 11, color: "#00649e" } };
    Object.assign(label, { xanchor: "right", yanchor: letter === "x" ? "bottom" : "top" });
    return [...shapes, { ...line, [`${letter}0`]: value, [`${letter}1`]: value, [`${other}0`]: 0, [`${other}1`]: 1, label }];
  }

  // Draws once a frame at most, because a slider moves faster than thousands of marks. answer: the row of the best network.
  setBudget(figure, value, answer) {
    this.budget = [figure, value];
    this.answer = answer;
    this.waiting ??= requestAnimationFrame(() => {
      this.waiting = null;
      if (this.axes.z) return this.draw(false);
      const { x, y } = this.points(this.answered()), ring = this.node.data.findIndex(({ meta }) => meta === "answer");
      Plotly.update(this.node, { x: [x], y: [y] }, { shapes: themed(this.shapes()) }, [ring]);
    });
  }

  choose(rows, compared) {
    this.chosen = [...rows.filter((row) => !compared.includes(row)), ...compared];
    this.compared = compared;
    this.draw(false);
  }

  // A box keeps a range of both columns, a lasso keeps what is inside.
  select({ range, lassoPoints }) {
    const [x, y] = [this.column("x"), this.column("y")];
    if (range) this.filter.keepRanges([x, ...range.x], [y, ...range.y]);
    else if (lassoPoints) this.filter.keepArea({ x: x.name, y: y.name, log: [this.isLog("x"), this.isLog("y")], points: lassoPoints.x.map((at, i) => [at, lassoPoints.y[i]]) });
  }
}
