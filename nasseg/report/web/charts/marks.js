// Marks of the front by keyboard: arrows go from one to the next, Enter opens it, Shift and Enter compares it.

import { byId } from "../lib/dom.js";

export function walkMarks(front, open, toggle) {
  const { node } = front;
  let row = null;
  const marks = () =>
    node.data
      .flatMap(({ meta, visible, customdata, x }, curveNumber) =>
        ["trials", "published"].includes(meta) && visible !== false ? customdata.map((mark, pointNumber) => ({ row: mark, curveNumber, pointNumber, at: x[pointNumber] })) : [],
      )
      .sort((a, b) => a.at - b.at || a.row - b.row);
  node.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && row !== null) return event.shiftKey ? toggle(row) : open(row, false);
    const all = marks();
    if (!step || !all.length) return;
    event.preventDefault();
    const place = all.findIndex((mark) => mark.row === row);
    const next = all[Math.max(0, Math.min(all.length - 1, place < 0 && step === 1 ? 0 : place + step))];
    row = next.row;
    byId("mark").textContent = front.data.hover[row].replace(/<[^>]*>/g, " ");
    if (!front.axes.z) Plotly.Fx.hover(node, [{ curveNumber: next.curveNumber, pointNumber: next.pointNumber }]);
  });
  node.addEventListener("blur", () => !front.axes.z && Plotly.Fx.unhover(node));
}
