"use strict";
// The panel of one network. Text of a study only ever enters the page as text, never as markup.

function el(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "rect", "polygon", "circle"].includes(name);
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

// A figure over training steps: [[step, value], ...]; marks: a circle at each.
function curve(points, name, { colour = "#0072B2", marks = false } = {}) {
  const [width, height, left, bottom, top] = [320, 130, 34, 18, 10];
  const last = points[points.length - 1], values = points.map((point) => point[1]);
  const high = Math.max(...values), low = Math.min(0, ...values);
  const x = (step) => left + ((width - left - 6) * step) / (last[0] || 1);
  const y = (value) => height - bottom - ((height - bottom - top) * (value - low)) / (high - low || 1);
  const path = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const label = (text, at, from, anchor) => el("text", { x: at, y: from, "text-anchor": anchor }, text);
  const circle = ([step, value]) => el("circle", { cx: x(step).toFixed(1), cy: y(value).toFixed(1), r: 3.5, fill: colour });
  const end = `${last[0].toLocaleString("en")} steps, ${name} ${Number(last[1].toPrecision(3))}`;
  return el(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${name} over training: ${end}` },
    el("line", { x1: left, x2: width - 6, y1: y(low), y2: y(low), stroke: "#c3cad2" }),
    el("line", { x1: left, x2: left, y1: top, y2: y(low), stroke: "#c3cad2" }),
    el("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-linejoin": "round" }),
    ...(marks ? points.map(circle) : []),
    label(high.toPrecision(3), left - 4, top + 5, "end"),
    label(low.toPrecision(1), left - 4, y(low), "end"),
    label("0", left, height - 4, "middle"),
    label(end, width - 6, height - 4, "end"),
  );
}

const note = (text, className) => (text ? el("p", { class: className }, text) : null);

function groupOf(group) {
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
  if (detail.stages?.some((stage) => stage[0])) {
    parts.push(el("h4", {}, "Stages"), stageDiagram(detail));
    parts.push(el("p", { class: "protocol" }, "The finer a map, the wider its box; the darker, the more of the multiply-adds."));
  }
  parts.push(...(detail.schedules ?? []).flatMap(scheduleDiagram));
  if (detail.arch.length) parts.push(el("h4", {}, "Architecture"), rowsOf(detail.arch, "arch"));
  parts.push(...detail.groups.flatMap(groupOf));
  if (detail.stages?.length) {
    const name = (stride) => (stride ? `1/${stride}` : "global");
    const table = rowsOf(detail.stages.map(([stride, , params, macs, share]) => [name(stride), params, macs, bar(share)]));
    table.prepend(head(["stride", "parameters", "mult-adds", ""]));
    parts.push(el("h4", {}, "Cost by stage"), table);
  }
  if (detail.parts?.length) {
    parts.push(el("h4", {}, "Latency by part"), rowsOf(detail.parts.map(([name, ms, share]) => [name, ms, bar(share)])));
    parts.push(note("Run eagerly, each part waited for: medians, whose sum may differ from the latency above.", "protocol"));
  }
  if (detail.iou?.length) {
    const row = ([name, iou]) => [name, iou === null ? "absent" : iou.toFixed(1), bar(iou || 0)];
    parts.push(el("h4", {}, "IoU by class, %"), rowsOf(detail.iou.map(row)));
  }
  if (detail.curve?.length > 1) parts.push(el("h4", {}, "Training loss"), curve(detail.curve, "loss"));
  if (detail.rungs?.length) parts.push(el("h4", {}, "mIoU at its rungs, %"), curve(detail.rungs, "mIoU", { colour: "#D55E00", marks: true }));
  for (const [title, command] of detail.commands ?? []) parts.push(el("h4", {}, title), el("pre", {}, command));
  if (detail.facts.length) parts.push(el("h4", {}, "Record"), rowsOf(detail.facts));
  return parts.filter((part) => part !== null);
}
