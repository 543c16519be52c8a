// A network drawn as its blocks and what reads what: branches beside each other, joins, from left to right.

import { el } from "../lib/dom.js";

const CELL = 30, BOX = 24, HIGH = 18, LANE = 26, LEFT = 38, TOP = 8;

// Whether there is more to see than a chain of stages, but not too much to draw.
export function isDrawable(blocks) {
  return blocks?.length > 1 && blocks.length <= 60 && blocks.some(([, , , inputs]) => inputs.length > 1);
}

// blocks: [stride (0: one pixel), channels, share of the multiply-adds in percent, the blocks that it reads (-1: image)].
export function topologyDiagram(blocks) {
  const layers = [];
  for (const [, , , inputs] of blocks) layers.push(1 + Math.max(...inputs.map((i) => (i < 0 ? -1 : layers[i]))));
  const strides = [...new Set(blocks.map(([stride]) => stride))].sort((a, b) => (a || Infinity) - (b || Infinity));
  const taken = new Map(), lanes = blocks.map(([stride], i) => {
    const key = `${stride} ${layers[i]}`, lane = taken.get(key) ?? 0;
    taken.set(key, lane + 1);
    return lane;
  });
  const rows = new Map();
  let bottom = TOP;
  for (const stride of strides) {
    const count = 1 + Math.max(...blocks.map(([s], i) => (s === stride ? lanes[i] : 0)));
    rows.set(stride, bottom);
    bottom += count * LANE + 6;
  }
  const width = LEFT + CELL * (1 + Math.max(...layers)), x = (i) => LEFT + CELL * layers[i], y = (i) => rows.get(blocks[i][0]) + LANE * lanes[i];
  const text = (words, at, from, anchor, more = {}) => el("text", { x: at, y: from, "text-anchor": anchor, ...more }, words);
  const edges = blocks.flatMap(([, , , inputs], i) => inputs.map((j) => edge(j < 0 ? [LEFT - 4, y(i) + HIGH / 2] : [x(j) + BOX, y(j) + HIGH / 2], [x(i), y(i) + HIGH / 2], j >= 0 && blocks[j][0] === blocks[i][0] && layers[i] - layers[j] > 1)));
  const boxes = blocks.flatMap(([stride, channels, share, inputs], i) => {
    const shade = 0.12 + 0.88 * Math.sqrt(share / 100), joins = inputs.length > 1, colour = joins ? "#D55E00" : "#0072B2";
    const said = `${stride ? `1/${stride}` : "global"}, ${channels ? `${channels} channels, ` : ""}${share < 1 ? "under 1" : Math.round(share)} % of the multiply-adds${joins ? `, joins ${inputs.length}` : ""}`;
    const box = el("rect", { x: x(i), y: y(i), width: BOX, height: HIGH, rx: 3, style: "fill: var(--paper)", stroke: colour, "stroke-width": joins ? 2 : 1 });
    const fill = el("rect", { x: x(i), y: y(i), width: BOX, height: HIGH, rx: 3, fill: "#0072B2", "fill-opacity": shade.toFixed(3) }, el("title", {}, said));
    return [box, fill, channels ? text(channels, x(i) + BOX / 2, y(i) + 12.5, "middle", { class: shade > 0.55 ? "on" : "in", "pointer-events": "none", style: `font-size: ${channels > 999 ? 8 : 9.5}px` }) : null];
  });
  const heads = strides.map((stride) => text(stride ? `1/${stride}` : "global", 0, rows.get(stride) + 13, "start"));
  const lines = strides.map((stride) => el("line", { x1: LEFT - 4, x2: width, y1: rows.get(stride) - 4, y2: rows.get(stride) - 4, style: "stroke: var(--line)" }));
  const joins = blocks.filter(([, , , inputs]) => inputs.length > 1).length;
  return el("svg", { viewBox: `0 0 ${Math.max(320, width)} ${bottom}`, role: "img", class: "topology", "aria-label": `${blocks.length} blocks at strides ${strides.join(", ")}, ${joins} of them joins` }, ...lines, ...heads, ...edges, ...boxes.filter(Boolean));
}

// bow: bends the line past the blocks between, in one row.
function edge([x0, y0], [x1, y1], bow) {
  const bend = (x1 - x0) / 2, lift = bow ? HIGH / 2 + 6 : 0;
  const d = bow ? `M${x0} ${y0}C${x0 + 8} ${y0 - lift * 1.4} ${x1 - 8} ${y1 - lift * 1.4} ${x1} ${y1 - 4}` : `M${x0} ${y0}C${x0 + bend} ${y0} ${x1 - bend} ${y1} ${x1} ${y1}`;
  return el("path", { d, fill: "none", stroke: "#8b97a4", "stroke-width": 1.2 });
}
