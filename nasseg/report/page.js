// Unpacks what the file holds, shows the figures that Python made, and links marks, table and panel.

const byId = (id) => document.getElementById(id);

async function unpack(id) {
  const bytes = Uint8Array.from(atob(byId(id).textContent), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// The chart of the front: two axes, hidden groups, a chosen row, and the ranges drawn first, which a choice must not move.
class Front {
  constructor(data) {
    Object.assign(this, { data, node: byId("front"), hidden: new Set(), chosen: null, ranges: null });
    for (const letter of ["x", "y"]) {
      byId(`${letter}-axis`).addEventListener("change", () => this.changeAxis(letter));
      byId(`${letter}-log`).addEventListener("change", () => this.draw(true));
    }
    this.axes = { x: byId("x-axis").value, y: byId("y-axis").value };
    this.draw(true);
  }

  changeAxis(letter) {
    const other = letter === "x" ? "y" : "x";
    const now = { x: byId("x-axis").value, y: byId("y-axis").value };
    if (now.x === now.y) now[other] = this.axes[letter]; // the same figure twice says nothing: they swap
    byId(`${other}-axis`).value = now[other];
    for (const l of ["x", "y"]) if (now[l] !== this.axes[l]) byId(`${l}-log`).checked = this.data.log[now[l]];
    this.axes = now;
    this.draw(true);
  }

  draw(afresh) {
    const figure = this.data.fronts[this.axes.x][this.axes.y];
    if (afresh) this.ranges = null;
    const traces = figure.data.map((trace) => this.trace(trace, figure));
    const axis = (letter) => ({
      ...figure.layout[`${letter}axis`],
      ...(byId(`${letter}-log`).checked ? { type: "log", dtick: logTicks(traces, letter) } : { type: "linear" }),
      ...(this.ranges ? { range: this.ranges[letter].slice(), autorange: false } : {}),
    });
    const view = `${this.axes.x} ${byId("x-log").checked} ${this.axes.y} ${byId("y-log").checked}`;
    const layout = { ...figure.layout, xaxis: axis("x"), yaxis: axis("y"), showlegend: false, uirevision: view };
    layout.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom"; // a finger scrolls the page
    const shown = Plotly.react(this.node, traces, layout, this.data.config);
    return shown.then(() => {
      const { xaxis, yaxis } = this.node.layout;
      this.ranges ??= { x: xaxis.range.slice(), y: yaxis.range.slice() };
      this.placeLabels();
    });
  }

  trace(trace, figure) {
    if (trace.meta === "selected") return { ...trace, ...this.at(figure) };
    const group = trace.meta === "published" ? "published" : trace.legendgroup;
    return { ...trace, visible: !this.hidden.has(group) };
  }

  at(figure) {
    for (const trace of figure.data) {
      const i = trace.meta === "steps" ? -1 : trace.customdata.indexOf(this.chosen);
      if (i >= 0) return { x: [trace.x[i]], y: [trace.y[i]] };
    }
    return { x: [], y: [] };
  }

  toggle(group) {
    if (!this.hidden.delete(group)) this.hidden.add(group);
    this.draw(false);
  }

  choose(row) {
    this.chosen = row;
    this.draw(false);
  }

  // Published names stand where they cover neither each other nor a star, nor the front if that can be; one that
  // finds no place shows on hover only.
  placeLabels() {
    const index = this.node.data.findIndex((trace) => trace.meta === "published");
    const trace = this.node.data[index], size = this.node.querySelector(".nsewdrag").getBoundingClientRect();
    const pen = document.createElement("canvas").getContext("2d");
    pen.font = `12px ${this.node.layout.font.family}`;
    const pixel = (letter, value, length) => {
      const { type, range } = this.node.layout[`${letter}axis`];
      return (((type === "log" ? Math.log10(value) : value) - range[0]) / (range[1] - range[0])) * length;
    };
    const at = (x, y) => [pixel("x", x, size.width), size.height - pixel("y", y, size.height)];
    const marks = trace.x.map((x, i) => (x === null || trace.y[i] === null ? null : at(x, trace.y[i])));
    const taken = marks.filter(Boolean).map((mark) => square(mark, 8));
    const front = this.node.data.filter((t) => t.meta === "trials" && t.marker.opacity === 1 && t.visible);
    const full = front.flatMap((t) => t.x.map((x, i) => square(at(x, t.y[i]), 6)));
    const apart = (box, others) => others.every((t) => box[2] < t[0] || t[2] < box[0] || box[3] < t[1] || t[3] < box[1]);
    const inside = (box) => box[0] >= 0 && box[1] >= 0 && box[2] <= size.width && box[3] <= size.height;
    const names = trace.customdata.map((row) => this.data.details[row].title);
    const texts = [], places = [];
    marks.forEach((mark, i) => {
      const width = pen.measureText(names[i]).width + 4;
      const options = mark ? Object.entries(boxes(mark, width)) : [];
      const free = options.filter(([, box]) => inside(box) && apart(box, taken));
      const found = free.find(([, box]) => apart(box, full)) ?? free[0];
      if (found) taken.push(found[1]);
      texts.push(found ? this.original(index).text[i] : "");
      places.push(found ? found[0] : "top center");
    });
    const key = JSON.stringify([texts, places]);
    if (key === JSON.stringify([trace.text, trace.textposition])) return;
    Plotly.restyle(this.node, { text: [texts], textposition: [places] }, [index]);
  }

  original(index) {
    return this.data.fronts[this.axes.x][this.axes.y].data[index];
  }
}

// Ticks of a log axis that do not run into each other: 1 to 9 over a short range, 1, 2, 5 over a longer one.
function logTicks(traces, letter) {
  const values = traces.flatMap((trace) => trace[letter]).filter((value) => value > 0);
  const decades = Math.log10(Math.max(...values) / Math.min(...values));
  return decades < 0.6 ? "D1" : decades < 4 ? "D2" : 1;
}

const square = ([x, y], half) => [x - half, y - half, x + half, y + half];

// Where a label of that width may stand around a star: [left, top, right, bottom] in pixels.
function boxes([x, y], width) {
  const centre = [x - width / 2, x + width / 2], left = [x - 11 - width, x - 11], right = [x + 11, x + 11 + width];
  const box = ([from, to], top) => [from, top, to, top + 16];
  return {
    "top center": box(centre, y - 26), "bottom center": box(centre, y + 10), "middle right": box(right, y - 8),
    "middle left": box(left, y - 8), "top right": box(right, y - 26), "top left": box(left, y - 26),
    "bottom right": box(right, y + 10), "bottom left": box(left, y + 10),
  };
}

function sortBy(header) {
  const body = header.closest("table").tBodies[0], index = header.cellIndex;
  const falling = header.getAttribute("aria-sort") === "ascending";
  const key = (row) => {
    const { dataset, textContent } = row.cells[index];
    return dataset.value === undefined ? textContent : dataset.value === "" ? Infinity : Number(dataset.value);
  };
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const order = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (falling ? -1 : 1);
  body.append(...[...body.rows].sort(order));
}

function save(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

async function start() {
  const data = JSON.parse(await unpack("payload"));
  document.body.dataset.ready = "yes";
  if (!byId("front")) return;
  document.head.append(el("script", {}, await unpack("library")));
  const front = new Front(data), panel = byId("panel");
  const rows = new Map(data.details.map((detail, row) => [detail.number, row]));

  const open = (row, jump) => {
    const detail = data.details[row];
    panel.replaceChildren(...panelOf(detail));
    panel.scrollTop = 0;
    front.choose(row);
    for (const line of document.querySelectorAll("#front-table tbody tr")) {
      line.classList.toggle("chosen", line.id === `trial-${detail.number}`);
    }
    if (detail.number !== undefined) history.replaceState(null, "", `#trial-${detail.number}`);
    const { top } = panel.getBoundingClientRect();
    if (jump || top > innerHeight * 0.7) {
      panel.focus({ preventScroll: true });
      if (top < 0 || top > innerHeight * 0.5) (innerWidth > 860 ? byId("front") : panel).scrollIntoView({ block: "start" });
    }
  };
  const openLink = (hash, jump) => {
    const row = rows.get(Number(hash.replace("#trial-", "")));
    if (row !== undefined) open(row, jump);
  };

  front.node.on("plotly_click", (event) => open(event.points[0].customdata, false));
  front.node.on("plotly_relayout", () => front.placeLabels());
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#trial-']");
    if (!link) return;
    event.preventDefault();
    openLink(link.hash, true);
  });
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const row = rows.get(Number(byId("go-number").value.replace("#", "") || NaN));
    byId("go-message").textContent = row === undefined ? "The study has no such trial." : "";
    if (row !== undefined) open(row, true);
  });
  for (const key of document.querySelectorAll(".legend button")) {
    key.addEventListener("click", () => {
      front.toggle(key.dataset.group);
      key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
    });
  }
  for (const header of document.querySelectorAll("#front-table th:has(button)")) {
    header.firstChild.addEventListener("click", () => sortBy(header));
  }
  byId("csv").addEventListener("click", () => save(`${data.study.replace(/[^\w.-]+/g, "-")}.csv`, data.csv));

  const low = byId("hypervolume"), { data: traces, layout } = data.hypervolume;
  await Plotly.newPlot(low, traces, { ...layout, showlegend: false, dragmode: false }, { ...data.config, displayModeBar: false });
  low.on("plotly_click", (event) => open(event.points[0].customdata, true));
  const charts = [front.node, low];
  const paper = (chart) => ({ autosize: false, width: 680, height: chart === low ? 260 : 440 });
  addEventListener("beforeprint", () => charts.forEach((chart) => Plotly.relayout(chart, paper(chart))));
  const screen = { autosize: true, width: null, height: null };
  addEventListener("afterprint", () => charts.forEach((chart) => Plotly.relayout(chart, screen)));
  if (location.hash.startsWith("#trial-")) openLink(location.hash, false);
  document.body.dataset.drawn = "yes";
}

start();
