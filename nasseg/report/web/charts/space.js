// The front over three objectives: the traces of the first two, each mark with its third figure.

const SOLIDS = { circle: "circle", square: "square", diamond: "diamond", "triangle-up": "cross", pentagon: "x", "triangle-down": "diamond-open", star: "diamond-open" };

// front: with axes x, y and z. traces: of x over y, as filtered. The layouts of the three axes are as Python made them.
export function spaceOf(front, traces, layouts) {
  const { axes } = front, letters = ["x", "y", "z"];
  const at = (letter, row) => front.column(letter).values[row] ?? null;
  const place = (found) => Object.fromEntries(letters.map((letter) => [letter, found.map((row) => at(letter, row))]));
  const base = ({ name, meta, visible, legendgroup }) => ({ type: "scatter3d", name, meta, visible, legendgroup });
  const marks = traces.filter(({ meta }) => ["trials", "published"].includes(meta)).map((trace) => ({
    ...base(trace), ...place(trace.customdata), customdata: trace.customdata, mode: trace.mode, text: trace.text, hovertext: trace.hovertext,
    hovertemplate: trace.hovertemplate, textposition: trace.customdata.map((_, i) => ["top center", "bottom center", "middle right", "middle left"][i % 4]), textfont: { size: 11, color: trace.textfont?.color },
    marker: { ...trace.marker, symbol: SOLIDS[trace.marker.symbol.replace("-open", "")], size: trace.meta === "published" ? 7 : 5 },
  })); // prettier-ignore
  const chosen = [...front.chosen, front.answer].filter((row) => row !== undefined && letters.every((letter) => at(letter, row) !== null));
  const ring = { type: "scatter3d", meta: "selected", mode: "markers", ...place(chosen), customdata: chosen, hoverinfo: "skip", marker: { symbol: "circle-open", size: 11, color: "#1d2733" } };
  const shown = marks.filter(({ visible }) => visible !== false);
  const ends = (letter, limit) => {
    const values = [...shown.flatMap((trace) => trace[letter]), ...limit].filter((value) => value !== null);
    return [Math.min(...values), Math.max(...values)];
  };
  // A limit is a plane, shown by its outline around all that is drawn.
  const limits = letters.flatMap((letter) => {
    const shapes = front.column(letter).limits.x;
    const [a, b] = letters.filter((other) => other !== letter), [lowA, highA] = ends(a, []), [lowB, highB] = ends(b, []);
    return shapes.map(({ x0, label }) => ({
      type: "scatter3d", meta: "limit", mode: "lines", [letter]: Array(5).fill(x0), [a]: [lowA, highA, highA, lowA, lowA], [b]: [lowB, lowB, highB, highB, lowB],
      line: { color: "#5d6977", dash: "dash", width: 3 }, hovertemplate: `${label.text}<extra></extra>`,
    })); // prettier-ignore
  });
  const axis = (letter) => {
    const { title, tickformat, tickvals, ticktext } = layouts[letter];
    const type = front.isLog(letter) ? "log" : "linear";
    return [`${letter}axis`, { title: { ...title, font: { size: 12 } }, tickformat, tickvals, ticktext, type, gridcolor: "#d5dae0", color: "#1d2733", tickfont: { size: 11 }, zeroline: false, ...(type === "log" ? { nticks: 5 } : {}) }];
  };
  const camera = { center: { x: 0, y: 0, z: -0.12 }, eye: { x: 1.3, y: -1.45, z: 0.5 } };
  return [[...marks, ...limits, ring], { ...Object.fromEntries(letters.map(axis)), aspectmode: "cube", camera, uirevision: letters.map((l) => axes[l]).join(" ") }];
}
