// Charts of the population: one parameter at a time, all by importance, and networks as lines.

import { byId } from "../lib/dom.js";
import { section } from "../lib/sections.js";
import { draw } from "../lib/theme.js";

class PopulationCharts {
  constructor(charts, { data, columns, filter, open }) {
    Object.assign(this, { data: charts, config: data.config, hover: data.hover, columns, filter, open, drawn: false, brushes: 0 });
    this.names = ["effects", "edf", "importance", "parallel"];
    byId("parameter").addEventListener("change", () => this.choose(byId("parameter").value));
    // Far below the fold: drawn when the reader comes near, or has nothing else to wait for.
    this.eye = new IntersectionObserver((seen) => seen.some((entry) => entry.isIntersecting) && this.start(), { rootMargin: "600px" });
    this.eye.observe(byId("population"));
    setTimeout(() => this.start(), 1500);
  }

  start() {
    if (this.drawn) return;
    this.drawn = true;
    this.eye.disconnect();
    this.choose(byId("parameter").value);
    const rows = (event) => this.open(event.points[0].customdata, true);
    for (const name of ["effects", "parallel"]) byId(name).on("plotly_click", (event) => event.points[0].customdata !== undefined && rows(event));
    byId("parallel").on("plotly_selected", (event) => event?.range && this.brush(event.range));
    byId("importance").on("plotly_click", (event) => {
      byId("parameter").value = event.points[0].customdata;
      this.choose(event.points[0].customdata);
      byId("population-title").scrollIntoView({ block: "start" });
    });
    document.body.dataset.population = "yes";
  }

  // Keeps a stretch, from 0 (lowest) to 1, of the axes inside the box, or of the nearest axis.
  brush({ x, y }) {
    const { axes } = this.data.parallel.layout.meta, [left, right] = [...x].sort((a, b) => a - b);
    const inside = axes.map((_, i) => i).filter((i) => i >= left && i <= right);
    const found = inside.length ? inside : [Math.max(0, Math.min(axes.length - 1, Math.round((left + right) / 2)))];
    this.filter.keepRanges(...found.map((i) => {
      const { parameter, figure, ends, log } = axes[i];
      const column = this.columns.get(figure ?? `arch.${parameter}`);
      const value = (share) => (figure === undefined ? share * (column.levels.length - 1) : log ? ends[0] * (ends[1] / ends[0]) ** share : ends[0] + (ends[1] - ends[0]) * share);
      return [column, ...y.map(value)];
    })); // prettier-ignore
  }

  choose(name) {
    this.chosen = this.data.parameters[name];
    byId("verdict").textContent = this.chosen.sentence;
    this.draw();
  }

  // Python computes importance and means over all networks. Networks, distributions and lines follow the filter.
  draw() {
    byId("population-filter").hidden = !this.filter.active;
    if (!this.drawn) return;
    const { effects, edf } = this.chosen;
    this.show("effects", effects, effects.data.map((trace) => this.filter.trace(trace)));
    const lines = this.edf();
    this.show("edf", edf, lines, { showlegend: true });
    const bare = !lines.some((trace) => trace.x.length);
    const equal = this.chosen.equal ? "At equal cost: over the costs that every value reaches, each with the same weight. The number of networks is in brackets." : "The values have no cost in common: all networks, as the search drew them.";
    byId("edf-note").textContent = bare && this.filter.active ? "The filter leaves no cost that all values reach." : equal;
    this.show("importance", this.data.importance, this.data.importance.data, { showlegend: true });
    const named = (trace) => ({ ...trace, text: trace.customdata.map((row) => this.hover[row]) });
    const brush = { dragmode: matchMedia("(pointer: coarse)").matches ? false : "select", selections: [], selectionrevision: ++this.brushes };
    this.show("parallel", this.data.parallel, this.data.parallel.data.map((trace) => named(this.filter.trace(trace))), brush);
  }

  show(id, { layout }, traces, more = {}) {
    const shown = { ...layout, showlegend: false, dragmode: false, ...more };
    return draw(byId(id), traces, shown, { ...this.config, displayModeBar: false });
  }

  // Distributions of the kept networks, over the bins of cost in which every line still has some, each of equal weight.
  edf() {
    const { edf, bins } = this.chosen;
    if (!this.filter.active) return edf.data;
    // The first point is where a line leaves zero: no network.
    const points = ({ x, customdata }, t) => bins[t].map((bin, i) => ({ x: x[i + 1], row: customdata[i + 1], bin }));
    const kept = edf.data.map((trace, t) => points(trace, t).filter(({ row }) => this.filter.keeps(row)));
    const counts = kept.map((line) => {
      const count = new Map();
      for (const { bin } of line) count.set(bin, (count.get(bin) ?? 0) + 1);
      return count;
    });
    const present = counts.filter((count) => count.size);
    const common = present.length ? [...present[0].keys()].filter((bin) => present.every((count) => count.has(bin))) : [];
    return edf.data.map((trace, t) => {
      const line = kept[t].filter(({ bin }) => common.includes(bin)), start = line.slice(0, 1);
      let share = 0;
      const y = line.map(({ bin }) => (share += 1 / (common.length * counts[t].get(bin))));
      const name = trace.name.replace(/ \([\d,]+\)$/, ` (${line.length.toLocaleString("en")})`);
      return { ...trace, name, x: [...start, ...line].map((p) => p.x), y: [...start.map(() => 0), ...y], customdata: [...start.map(() => -1), ...line.map((p) => p.row)] };
    });
  }
}

section("population", (charts, page) => {
  const population = new PopulationCharts(charts, page);
  return { draw: () => population.draw(), print: () => population.start() };
});
