// The front's chart as a file for a paper: its width in cm, 8 points, the legend inside, no budget.

import { placeLabels } from "./labels.js";
import { byId, el } from "../lib/dom.js";
import { light } from "../lib/theme.js";

const CM = 96 / 2.54, POINT = 96 / 72; // in pixels
const INK = "#1d2733", GRID = "#e7eaee", FRAME = "#c3cad2";

// The chart as it is shown now, with its filter and zoom. Returns SVG text, or PNG bytes at three times the size.
export async function figureFile(data, axes, cm, format) {
  const width = Math.round(cm * CM), height = Math.round(width * (cm > 10 ? 0.5 : 0.75));
  const { traces, layout } = forPaper(byId("front"), width, height);
  const node = el("div", { class: "off-screen" });
  document.body.append(node);
  try {
    await Plotly.newPlot(node, traces, layout, { staticPlot: false });
    if (!axes.z) await placeLabels({ node, data, axes });
    const url = await Plotly.toImage(node, { format, width, height, scale: format === "png" ? 3 : 1 });
    const [, coded] = url.split(/,(.*)/s);
    if (format === "png") return Uint8Array.from(atob(coded), (letter) => letter.charCodeAt(0));
    const size = (name, value) => [new RegExp(`^(<svg[^>]*?) ${name}="[^"]*"`), `$1 ${name}="${value}cm"`];
    const sized = [size("width", cm), size("height", ((cm * height) / width).toFixed(2))];
    return sized.reduce((text, change) => text.replace(...change), decodeURIComponent(coded));
  } finally {
    Plotly.purge(node);
    node.remove();
  }
}

function forPaper(node, width, height) {
  const [data, layout] = light(node);
  const size = (points) => points * POINT;
  const traces = data.filter(({ meta }) => !["selected", "answer"].includes(meta)).map((trace) => {
    const marker = { ...trace.marker, size: trace.marker?.size * 0.62, line: { ...trace.marker?.line, width: 0.8 } };
    return { ...trace, legendgroup: undefined, showlegend: trace.meta !== "steps" && trace.showlegend, ...(trace.marker ? { marker } : {}), ...(trace.textfont ? { textfont: { ...trace.textfont, color: INK, size: size(7) } } : {}) };
  });
  const axis = (letter) => {
    const old = layout[`${letter}axis`] ?? {};
    const shown = node.layout[`${letter}axis`]?.range;
    return { ...old, ...(shown ? { range: shown.slice(), autorange: false } : {}), color: INK, gridcolor: GRID, linecolor: FRAME, tickcolor: FRAME, title: { ...old.title, standoff: 4, font: { size: size(8) } } };
  };
  const legend = { orientation: "v", ...corner(node), bgcolor: "rgba(255,255,255,0.85)", font: { size: size(7), color: INK }, borderwidth: 0, tracegroupgap: 0 };
  const shapes = (layout.shapes ?? []).filter(({ label }) => label?.text !== "budget");
  for (const { label, x0, x1 } of shapes) {
    label.font = { ...label.font, size: size(7) };
    if (x0 === x1) Object.assign(label, { textposition: legend.yanchor === "bottom" ? "end" : "start", textangle: -90, xanchor: "right", yanchor: legend.yanchor === "bottom" ? "top" : "bottom" }); // away from the legend
  }
  return {
    traces,
    layout: {
      ...layout, width, height, autosize: false, showlegend: true, legend, shapes, xaxis: axis("x"), yaxis: axis("y"),
      font: { ...layout.font, size: size(8), color: INK }, paper_bgcolor: "white", plot_bgcolor: "white", margin: { l: 8, r: 8, t: 8, b: 8 },
    },
  };
}

// The corner of the plot with the fewest marks.
function corner(node) {
  const { xaxis, yaxis } = node.layout, found = { left: { top: 0, bottom: 0 }, right: { top: 0, bottom: 0 } };
  const share = ({ type, range }, value) => ((type === "log" ? Math.log10(value) : value) - range[0]) / (range[1] - range[0]);
  for (const { meta, visible, x, y } of xaxis?.range ? node.data : []) {
    if (!["trials", "published"].includes(meta) || visible === false) continue;
    x.forEach((value, i) => {
      const [across, up] = [share(xaxis, value), share(yaxis, y[i])];
      if (Math.abs(across - 0.5) > 0.08 && Math.abs(up - 0.5) > 0.1) found[across < 0.5 ? "left" : "right"][up < 0.5 ? "bottom" : "top"] += 1;
    });
  }
  const places = ["right", "left"].flatMap((side) => ["bottom", "top"].map((end) => [found[side][end], side, end]));
  const [, side, end] = places.sort((a, b) => a[0] - b[0])[0];
  return { x: side === "left" ? 0.01 : 0.99, xanchor: side, y: end === "bottom" ? 0.02 : 0.98, yanchor: end };
}
