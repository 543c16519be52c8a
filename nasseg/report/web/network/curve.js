import { el } from "../lib/dom.js";

// Colours of lines in one chart, which colour-blind readers can tell apart, in the order of the other charts.
export const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];

// A figure over training steps. points: [[step, value], ...]; marks: whether each has a circle.
export function curve(points, name, { colour = COLOURS[0], marks = false } = {}) {
  return curves([{ points, colour, label: "" }], name, marks);
}

// Several in one chart: [{points, colour, label}], each with its label at the end.
export function curves(series, name, marks = false) {
  const [width, height, left, bottom, top] = [320, 130, 34, 18, 10], right = series.length > 1 ? 18 : 6;
  const values = series.flatMap(({ points }) => points.map((point) => point[1])), ends = series.map(({ points }) => points[points.length - 1]);
  const last = Math.max(...ends.map((point) => point[0])), high = Math.max(...values), low = Math.min(0, ...values);
  const x = (step) => left + ((width - left - right) * step) / (last || 1);
  const y = (value) => height - bottom - ((height - bottom - top) * (value - low)) / (high - low || 1);
  const text = (words, at, from, anchor, more = {}) => el("text", { x: at, y: from, "text-anchor": anchor, ...more }, words);
  const lines = series.flatMap(({ points, colour }) => {
    const d = points.map(([step, value], i) => `${i ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
    const circle = ([step, value]) => el("circle", { cx: x(step).toFixed(1), cy: y(value).toFixed(1), r: 3.5, fill: colour });
    return [el("path", { d, fill: "none", stroke: colour, "stroke-width": 1.8, "stroke-linejoin": "round" }), ...(marks ? points.map(circle) : [])];
  });
  const end = (point) => `${point[0].toLocaleString("en")} steps, ${name} ${Number(point[1].toPrecision(3))}`;
  const said = series.map(({ label }, i) => `${label}${label ? ": " : ""}${end(ends[i])}`).join("; ");
  return el(
    "svg",
    { viewBox: `0 0 ${width} ${height}`, role: "img", class: "curve", "aria-label": `${name} over training: ${said}` },
    el("line", { x1: left, x2: width - right, y1: y(low), y2: y(low), stroke: "#c3cad2" }),
    el("line", { x1: left, x2: left, y1: top, y2: y(low), stroke: "#c3cad2" }),
    ...lines,
    ...labels(series, ends.map((point) => y(point[1]))).map(([label, at, colour]) => text(label, width - right + 5, at, "start", { style: `fill: ${colour}; font-weight: 700` })),
    text(high.toPrecision(3), left - 4, top + 5, "end"),
    text(low.toPrecision(1), left - 4, y(low), "end"),
    text("0", left, height - 4, "middle"),
    text(series.length > 1 ? `${last.toLocaleString("en")} steps` : end(ends[0]), width - right, height - 4, "end"),
  );
}

// [label, y, colour] of each line's end, moved apart so that none covers another.
function labels(series, heights) {
  const placed = series.map(({ label, colour }, i) => [label, heights[i] + 4, colour]).sort((a, b) => a[1] - b[1]);
  placed.forEach((one, i) => i && (one[1] = Math.max(one[1], placed[i - 1][1] + 11)));
  return placed.filter(([label]) => label);
}
