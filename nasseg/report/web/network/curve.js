import { el } from "../lib/dom.js";

// A figure over training steps: [[step, value], ...]; marks: a circle at each.
export function curve(points, name, { colour = "#0072B2", marks = false } = {}) {
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
