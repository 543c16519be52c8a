// A network drawn: a row for each output stride, and its dilation schedules block by block.

import { el } from "../lib/dom.js";

// stages: [stride (0: one pixel), width or null, parameters, multiply-adds, share of them in percent]; input: [h, w].
export function stageDiagram({ stages, input }) {
  const busy = stages.filter(([, , params, macs]) => params !== "0" || macs !== "0");
  const rows = [...busy.filter(([stride]) => stride), ...busy.filter(([stride]) => !stride)];
  const [width, row, top, left, right] = [320, 30, 20, 36, 186], middle = (left + right) / 2;
  const height = top + row * rows.length;
  const label = (text, x, y, anchor = "start", more = {}) => el("text", { x, y, "text-anchor": anchor, ...more }, text);
  const strides = rows.map(([stride]) => stride).filter(Boolean), last = Math.log2(Math.max(2, ...strides));
  // Half the width of a box, which is wider for a finer map.
  const half = (stride) => (stride ? 24 + (1 - Math.log2(stride) / (last + 1)) * (middle - left - 24) : 14);
  const known = rows.some(([, channels]) => channels);
  const heads = [label("stride", 0, 10), label(known ? "channels" : "", middle, 10, "middle"), label("map, pixels", right + 10, 10), label("mult-adds", width, 10, "end")];
  const drawn = rows.flatMap(([stride, channels, , macs, share], i) => {
    const y = top + row * i, w = half(stride), below = i + 1 < rows.length && half(rows[i + 1][0]);
    const size = stride ? input.map((side) => Math.ceil(side / stride)).join(" × ") : "1 × 1";
    const points = below && `${middle - w},${y + 22} ${middle + w},${y + 22} ${middle + below},${y + row} ${middle - below},${y + row}`;
    const shade = 0.12 + 0.88 * Math.sqrt(share / 100);
    return [
      points && el("polygon", { points, fill: "#eef1f4" }),
      el("rect", { x: middle - w, y, width: 2 * w, height: 22, rx: 3, fill: "#0072B2", "fill-opacity": shade.toFixed(3), stroke: "#0072B2" }),
      label(stride ? `1/${stride}` : "global", 0, y + 15),
      channels ? label(channels, middle, y + 15, "middle", { class: shade > 0.55 ? "on" : "in" }) : null,
      label(size, right + 10, y + 15),
      label(`${macs === "0" ? 0 : share < 1 ? "< 1" : Math.round(share)} %`, width, y + 15, "end"),
    ].filter(Boolean);
  });
  const said = rows.map(([stride, channels, , , share]) => `stride ${stride || "global"}${channels ? `, ${channels} channels` : ""}, ${share} %`);
  return el("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", class: "stages", "aria-label": `Stages: ${said.join("; ")} of the multiply-adds` }, ...heads, ...drawn);
}

// runs: [[blocks, [rate of each branch]], ...]. A column is a block, or a run if there are many; a cell is a branch.
export function scheduleDiagram([name, notation, runs]) {
  const blocks = runs.reduce((sum, [count]) => sum + count, 0), each = blocks <= 20;
  const columns = each ? runs.flatMap(([count, rates]) => Array(count).fill([1, rates])) : runs;
  const cell = Math.min(30, 320 / columns.length), branches = Math.max(...runs.map(([, rates]) => rates.length));
  const height = 18 * branches + (each ? 2 : 16), most = Math.max(2, ...runs.flatMap(([, rates]) => rates));
  const drawn = columns.flatMap(([count, rates], i) => {
    const x = i * cell, cells = rates.flatMap((rate, j) => {
      const shade = 0.1 + (0.8 * Math.log2(rate)) / Math.log2(most);
      const box = { x: (x + 1).toFixed(1), y: 18 * j, width: (cell - 2).toFixed(1), height: 16, rx: 2, fill: "#009E73", "fill-opacity": shade.toFixed(3), stroke: "#009E73" };
      const text = { x: (x + cell / 2).toFixed(1), y: 18 * j + 12, "text-anchor": "middle", class: "in" };
      return [el("rect", box), cell >= 7 * String(rate).length ? el("text", text, rate) : null];
    });
    return each ? cells : [...cells, el("text", { x: (x + cell / 2).toFixed(1), y: height - 2, "text-anchor": "middle" }, `${count}×`)];
  });
  const n = `${blocks} block${blocks === 1 ? "" : "s"}, one column per ${each ? "block" : "run of equal blocks"}${branches > 1 ? ", one row per branch" : ""}`;
  return [
    el("p", { class: "protocol" }, `${name}: ${notation}. Rates of ${n}.`),
    el("svg", { viewBox: `0 0 320 ${height}`, role: "img", class: "schedule", "aria-label": `${name}: ${notation}` }, ...drawn),
  ];
}
