// Unpacks what the file holds, shows the figures that Python made, and links marks, tables, filter and panel.

const byId = (id) => document.getElementById(id);

// The plotting library is inside the file, or beside it.
async function loadLibrary() {
  const source = byId("library").dataset.src;
  if (!source) return document.head.append(el("script", {}, await unpack("library")));
  const script = el("script", { src: source });
  const loaded = new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject }));
  document.head.append(script);
  await loaded.catch(() => Promise.reject(new Error(`The charts need ${source} beside this page.`)));
}

async function unpack(id) {
  const text = atob(byId(id).textContent), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// The chart of the front: two axes, what the filter keeps, chosen rows, a budget, and the ranges drawn first, which a
// choice must not move.
class Front {
  constructor(data, filter, budget) {
    Object.assign(this, { data, filter, budget, node: byId("front"), chosen: [], ranges: null });
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

  // The same figure twice says nothing: the other axis takes the one that was here, or the one that is nowhere.
  changeAxis(letter) {
    if (letter === "z") {
      const able = document.createElement("canvas").getContext("webgl");
      byId("go-message").textContent = able ? "" : "This browser draws nothing in three dimensions: its WebGL is off.";
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
      this.placeLabels();
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
        const i = trace.meta === "steps" ? -1 : trace.customdata.indexOf(row);
        if (i >= 0) return [[trace.x[i], trace.y[i]]];
      }
      return [];
    });
    return { x: found.map((point) => point[0]), y: found.map((point) => point[1]) };
  }

  // The best trade-off of the two objectives among what the filter keeps, in a group if there is a line for each.
  steps(group) {
    const { rows, directions } = this.data, { x, y } = this.axes;
    const sign = (name) => (directions[name] === "maximize" ? -1 : 1);
    const at = (name, row) => rows.figures[name]?.values[row];
    const mine = (row) => group === undefined || String(rows.groups[row]) === group;
    const usable = (row) => mine(row) && this.filter.keeps(row) && Number.isFinite(at(x, row)) && Number.isFinite(at(y, row));
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

  choose(rows) {
    this.chosen = rows;
    this.draw(false);
  }

  // Published names stand where they cover neither each other nor a star, nor the front if that can be; one that
  // finds no place shows on hover only.
  placeLabels() {
    if (this.axes.z) return;
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
    const { keys, names: all } = this.data.rows;
    const names = trace.customdata.map((row) => all[row - keys.length]);
    const original = this.data.fronts[this.axes.x][this.axes.y].data[index], texts = [], places = [];
    marks.forEach((mark, i) => {
      const width = pen.measureText(names[i]).width + 4;
      const options = mark ? Object.entries(boxes(mark, width)) : [];
      const free = options.filter(([, box]) => inside(box) && apart(box, taken));
      const found = free.find(([, box]) => apart(box, full)) ?? free[0];
      if (found) taken.push(found[1]);
      texts.push(found ? original.text[original.customdata.indexOf(trace.customdata[i])] : "");
      places.push(found ? found[0] : "top center");
    });
    const key = JSON.stringify([texts, places]);
    if (key === JSON.stringify([trace.text, trace.textposition])) return;
    Plotly.restyle(this.node, { text: [texts], textposition: [places] }, [index]);
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

// Trials as the file holds them, {columns, data}, as CSV.
function csvOf({ columns, data }) {
  const text = (value) => (value === null ? "" : value === true ? "True" : value === false ? "False" : String(value));
  const cell = (value) => (/[",\r\n]/.test(text(value)) ? `"${text(value).replaceAll('"', '""')}"` : text(value));
  return [columns, ...data].map((row) => row.map(cell).join(",") + "\n").join("");
}

function jsonOf({ studies, trials: { columns, data } }) {
  const trials = data.map((row) => Object.fromEntries(row.map((value, i) => [columns[i], value])));
  return JSON.stringify({ studies, trials }, null, 1);
}

function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

async function start() {
  document.body.dataset.ready = "yes";
  if (!byId("front")) return;
  const library = loadLibrary(), payload = unpack("payload"); // both at once
  const data = JSON.parse(await payload);
  try {
    await library;
  } catch ({ message }) {
    return byId("panel").replaceChildren(el("p", { class: "warning" }, message));
  }
  let packed = null;
  const details = () => (packed ??= unpack("details").then(JSON.parse)); // the panels' contents: only when asked for
  const panel = byId("panel"), rows = new Map(data.rows.keys.map((key, row) => [key, row]));
  const low = byId("hypervolume"), tableRows = [...document.querySelectorAll("#front-table tbody tr")];
  const over = byId("over");
  over?.addEventListener("change", () => drawHistory());
  const rowOf = (line) => rows.get(line.id.replace("trial-", ""));

  const drawHistory = () => {
    const { data: traces, layout } = data.hypervolume[over?.value ?? "trial"];
    const kept = traces.map((trace) => ({ ...filter.trace(trace), visible: !filter.hidden.has(trace.legendgroup) }));
    const shown = { ...layout, showlegend: traces.length > 2, dragmode: false };
    return Plotly.react(low, kept, shown, { ...data.config, displayModeBar: false });
  };
  const filter = new Filter(data, () => {
    front.draw(false);
    budget?.update();
    population?.draw();
    for (const line of tableRows) line.hidden = !filter.keeps(rowOf(line));
    drawHistory();
    const note = byId("population-filter");
    if (note) note.hidden = !filter.active;
  });
  let front = null; // drawn once, with the budget in it
  const budget = byId("budget-slider") && new Budget(data, filter, (figure, value) => front?.setBudget(figure, value));
  front = new Front(data, filter, budget && [budget.figure, budget.budget]);

  let opened = null, compare = null;
  const mark = () => front.choose([...(opened === null ? [] : [opened]), ...(compare?.rows ?? [])]);
  const toggle = async (row) => {
    compare ??= new Compare(await details(), () => {
      mark();
      for (const line of tableRows) line.querySelector("input").checked = compare.rows.includes(rowOf(line));
      const button = panel.querySelector(".pick");
      if (button) button.textContent = pickLabel(opened);
    });
    compare.toggle(row);
  };
  const pickLabel = (row) => (compare?.rows.includes(row) ? "Remove from the comparison" : "Compare");

  const open = async (row, jump) => {
    const detail = (await details())[row], pick = el("button", { type: "button", class: "pick" }, pickLabel(row));
    pick.addEventListener("click", () => toggle(row));
    const [title, ...rest] = panelOf(detail);
    panel.replaceChildren(title, el("p", { class: "actions" }, pick), ...rest);
    panel.scrollTop = 0;
    opened = row;
    mark();
    for (const line of tableRows) line.classList.toggle("chosen", line.id === `trial-${detail.key}`);
    if (detail.key !== undefined) history.replaceState(null, "", `#trial-${detail.key}`);
    const { top, bottom } = panel.getBoundingClientRect();
    if (jump || top > innerHeight * 0.7) {
      panel.focus({ preventScroll: true });
      if (top < 0 || top > innerHeight * 0.5 || bottom < 0) (innerWidth > 860 ? byId("front") : panel).scrollIntoView({ block: "start" });
    }
  };
  const population = data.population && byId("population") && new PopulationCharts(data, filter, open);
  const openLink = (hash, jump) => {
    const row = rows.get(hash.replace("#trial-", ""));
    return row === undefined ? null : open(row, jump);
  };

  front.node.on("plotly_click", ({ event, points }) => {
    if (points[0].customdata !== undefined) (event?.shiftKey ? toggle : open)(points[0].customdata, false);
  });
  walkMarks(front, open, toggle);
  front.node.on("plotly_relayout", () => front.placeLabels());
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#trial-']");
    if (!link) return;
    event.preventDefault();
    openLink(link.hash, true);
  });
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const row = rows.get(byId("go-number").value.replace("#", "").trim().toUpperCase());
    byId("go-message").textContent = row === undefined ? "This page has no such trial." : "";
    if (row !== undefined) open(row, true);
  });
  for (const line of tableRows) {
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${line.cells[0].textContent}`, title: "Compare" });
    box.addEventListener("change", () => toggle(rowOf(line)));
    line.cells[0].prepend(box, " ");
  }
  for (const header of document.querySelectorAll("#front-table th:has(button)")) {
    header.firstChild.addEventListener("click", () => sortBy(header));
  }
  const trials = async () => JSON.parse(await unpack("trials-file")), file = data.study.replace(/[^\w.-]+/g, "-");
  byId("csv").addEventListener("click", async () => save(`${file}.csv`, "text/csv", csvOf((await trials()).trials)));
  byId("json").addEventListener("click", async () => save(`${file}.json`, "application/json", jsonOf(await trials())));

  // On paper: charts of its width, and unfolded what is folded on the screen to be short (a study file stays folded).
  const drawn = () => [...document.querySelectorAll(".js-plotly-plot")];
  const height = (chart) => (chart.matches(".half") ? 320 : chart.matches(".low") ? 240 : chart.matches(".importance") ? chart.layout.height : 400);
  let folds = [], heights = new Map();
  addEventListener("beforeprint", () => {
    population?.start(open);
    folds = [...document.querySelectorAll("main details:not([open], #filters, :has(> pre))")];
    for (const fold of folds) fold.open = true;
    heights = new Map(drawn().map((chart) => [chart, chart.layout.height]));
    for (const chart of drawn()) Plotly.relayout(chart, { autosize: false, width: chart.matches(".half") ? 330 : 680, height: height(chart) });
  });
  addEventListener("afterprint", () => {
    for (const fold of folds) fold.open = false;
    for (const chart of drawn()) Plotly.relayout(chart, { autosize: true, width: null, height: heights.get(chart) ?? null });
  });
  if (location.hash.startsWith("#trial-")) await openLink(location.hash, false);
  document.body.dataset.drawn = "yes";
  setTimeout(async () => {
    await drawHistory();
    low.on("plotly_click", (event) => event.points[0].customdata >= 0 && open(event.points[0].customdata, true));
    setTimeout(details, 300); // so that the first click need not wait for them
  });
}

start();
