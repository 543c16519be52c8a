"use strict";
// Unpacks the data and the plotting library that are inside this file, and links chart, table and panel.
const config = { displaylogo: false, showSendToCloud: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const $ = (id) => document.getElementById(id);

async function unpack(id) {
  const bytes = Uint8Array.from(atob($(id).textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function table(rows) {
  const node = element("table");
  for (const cells of rows) {
    const row = node.insertRow();
    cells.forEach((cell, i) => {
      const td = row.insertCell();
      if (cell instanceof Node) td.append(cell); else td.textContent = cell;
      if (i) td.className = "n";
    });
  }
  return node;
}

function bar(share) {
  const node = element("div", undefined, "bar"), inner = element("i");
  inner.style.width = `${Math.max(0, Math.min(100, share))}%`;
  node.append(inner);
  return node;
}

function curve(points) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const top = Math.max(...points.map((p) => p[1])), end = points[points.length - 1][0];
  svg.setAttribute("viewBox", "0 0 300 90");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `training loss, ${points[0][1].toFixed(2)} to ${points[points.length - 1][1].toFixed(2)}`);
  const line = document.createElementNS("http://www.w3.org/2000/svg", "polyline");
  line.setAttribute("points", points.map(([step, loss]) => `${(300 * step) / end},${86 - (80 * loss) / top}`).join(" "));
  line.setAttribute("fill", "none");
  line.setAttribute("stroke", "#0072B2");
  line.setAttribute("stroke-width", "2");
  svg.append(line);
  return svg;
}

function show(data, number) {
  const trial = data.trials[number], panel = $("panel");
  if (!trial) return;
  const command = element("p");
  command.append(element("code", trial.command));
  panel.replaceChildren(element("h3", trial.title), table(trial.arch), element("p", `arch.id ${trial.id}`, "protocol"));
  for (const group of trial.groups) {
    panel.append(element("h3", group.name), table(group.rows), element("p", group.protocol, "protocol"));
  }
  if (trial.iou.length) {
    panel.append(element("h3", "IoU by class, %"));
    panel.append(table(trial.iou.map(([name, iou]) => [name, iou === null ? "absent" : iou.toFixed(1), bar(iou || 0)])));
  }
  if (trial.curve.length > 1) {
    const last = trial.curve[trial.curve.length - 1];
    panel.append(element("h3", "Training loss"), curve(trial.curve), element("p", `to ${last[1].toFixed(3)} at step ${last[0]}`, "protocol"));
  }
  if (trial.stages.length) {
    const total = trial.stages.reduce((sum, stage) => sum + stage.macs, 0) || 1;
    const name = (stage) => (stage.stride ? `stride ${stage.stride}` : "global");
    panel.append(element("h3", "Multiply-adds by stage"));
    panel.append(table(trial.stages.map((s) => [name(s), `${((100 * s.macs) / total).toFixed(1)} %`, bar((100 * s.macs) / total)])));
  }
  panel.append(element("h3", "Measure it again"), command);
  for (const row of document.querySelectorAll("#front-table tbody tr")) {
    row.classList.toggle("chosen", row.querySelector("a").dataset.trial === String(number));
  }
}

function drawFront(data) {
  const x = $("x").value, y = $("y").value;
  const figure = data.fronts[`${x}|${y}`];
  if (!figure) return;
  figure.layout.xaxis.type = $("log-x").checked ? "log" : "linear";
  figure.layout.yaxis.type = $("log-y").checked ? "log" : "linear";
  Plotly.react("front", figure.data, figure.layout, config);
}

function changeAxis(data, changed, other, before) {
  // The same objective on both axes says nothing: the other axis takes the one that was here.
  if ($(changed).value === $(other).value) $(other).value = before[changed];
  before.x = $("x").value;
  before.y = $("y").value;
  drawFront(data);
}

function sortBy(header, index) {
  const body = $("front-table").tBodies[0];
  const key = (row) => {
    const cell = row.cells[index], value = parseFloat(cell.dataset.value ?? cell.textContent);
    return Number.isNaN(value) ? cell.textContent : value;
  };
  const down = header.getAttribute("aria-sort") !== "descending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const order = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (down ? -1 : 1);
  body.append(...[...body.rows].sort(order));
}

async function start() {
  const library = document.createElement("script");
  library.textContent = await unpack("plotly");
  document.head.append(library);
  const data = JSON.parse(await unpack("data"));
  const before = { x: $("x").value, y: $("y").value };
  if (data.objectives.length > 1 && "macs" === before.x) $("log-x").checked = true;
  drawFront(data);
  Plotly.newPlot("hypervolume", data.hypervolume.data, data.hypervolume.layout, { ...config, displayModeBar: false });
  $("front").on("plotly_click", (event) => {
    const number = event.points[0].customdata;
    if (number !== undefined) show(data, number);
  });
  $("x").addEventListener("change", () => changeAxis(data, "x", "y", before));
  $("y").addEventListener("change", () => changeAxis(data, "y", "x", before));
  for (const axis of ["x", "y"]) $(`log-${axis}`).addEventListener("change", () => drawFront(data));
  for (const link of document.querySelectorAll("a[data-trial]")) {
    link.addEventListener("click", () => show(data, link.dataset.trial));
  }
  document.querySelectorAll("#front-table th").forEach((header, index) => {
    header.firstChild.addEventListener("click", () => sortBy(header, index));
  });
  $("csv").addEventListener("click", () => {
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([data.csv], { type: "text/csv" }));
    link.download = `${data.study.replaceAll("/", "-")}.csv`;
    link.click();
  });
  const first = document.querySelector("a[data-trial]");
  if (first) show(data, first.dataset.trial);
  document.body.dataset.ready = "yes";
}

start();
