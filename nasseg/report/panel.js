"use strict";
// The panel of one network. Text of a study only ever enters the page as text, never as markup.

function el(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function rowsOf(rows, className = "") {
  const cell = (value, i) => (value instanceof Node ? el("td", { class: "bars" }, value) : el("td", i ? { class: "number" } : {}, value));
  return el("table", { class: className }, el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))));
}

function bar(percent) {
  const inner = el("i");
  inner.style.width = `${Math.max(0, Math.min(100, percent))}%`;
  return el("span", { class: "bar" }, inner);
}

function head(names) {
  return el("thead", {}, el("tr", {}, ...names.map((name, i) => el("th", { scope: "col", class: i ? "number" : "" }, name))));
}

// Training loss over steps: [[step, loss], ...].
function curve(points) {
  const [width, height, left, bottom, top] = [320, 130, 34, 18, 8];
  const last = points[points.length - 1];
  const high = Math.max(...points.map((point) => point[1])), low = Math.min(0, ...points.map((point) => point[1]));
  const x = (step) => left + ((width - left - 6) * step) / (last[0] || 1);
  const y = (loss) => height - bottom - ((height - bottom - top) * (loss - low)) / (high - low || 1);
  const path = points.map(([step, loss], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("");
  const label = (text, at, from, anchor) => el("text", { x: at, y: from, "text-anchor": anchor }, text);
  return el(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Training loss, ${last[1]} after ${last[0]} steps` },
    el("line", { x1: left, x2: width - 6, y1: y(low), y2: y(low), stroke: "#c3cad2" }),
    el("line", { x1: left, x2: left, y1: top, y2: y(low), stroke: "#c3cad2" }),
    el("path", { d: path, fill: "none", stroke: "#0072B2", "stroke-width": 1.8, "stroke-linejoin": "round" }),
    label(high.toPrecision(3), left - 4, top + 7, "end"),
    label(low.toPrecision(1), left - 4, y(low), "end"),
    label("0", left, height - 4, "middle"),
    label(`${last[0]} steps, loss ${last[1].toPrecision(3)}`, width - 6, height - 4, "end"),
  );
}

function groupOf(group) {
  const note = (text, className) => (text ? el("p", { class: className }, text) : null);
  return [
    el("h4", {}, group.title),
    note(group.protocol, "protocol"),
    note(group.warning, "warning"),
    rowsOf(group.figures),
    note(group.note, "protocol"),
    note(group.environment, "protocol"),
  ];
}

function panelOf(detail) {
  const parts = [el("h3", { class: "title" }, detail.title, el("span", { class: detail.front ? "state front" : "state" }, detail.state))];
  if (detail.reason) parts.push(el("p", {}, detail.reason));
  if (detail.arch.length) parts.push(el("h4", {}, "Architecture"), rowsOf(detail.arch, "arch"));
  parts.push(...detail.groups.flatMap(groupOf));
  if (detail.stages && detail.stages.length) {
    const table = rowsOf(detail.stages.map(([stride, params, macs, , share]) => [stride, params, macs, bar(share)]));
    table.prepend(head(["stride", "parameters", "mult-adds", ""]));
    parts.push(el("h4", {}, "Cost by stage"), table);
  }
  if (detail.iou && detail.iou.length) {
    const row = ([name, iou]) => [name, iou === null ? "absent" : iou.toFixed(1), bar(iou || 0)];
    parts.push(el("h4", {}, "IoU by class, %"), rowsOf(detail.iou.map(row)));
  }
  if (detail.curve && detail.curve.length > 1) parts.push(el("h4", {}, "Training loss"), curve(detail.curve));
  if (detail.command) parts.push(el("h4", {}, "Measure it again"), el("pre", {}, detail.command));
  if (detail.facts.length) parts.push(el("h4", {}, "Record"), rowsOf(detail.facts));
  return parts.filter((part) => part !== null);
}
