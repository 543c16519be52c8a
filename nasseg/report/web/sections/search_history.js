// The chart of the hypervolume over trials or hours.

import { byId } from "../lib/dom.js";
import { section } from "../lib/sections.js";
import { draw } from "../lib/theme.js";

section("hypervolume", (figures, { data, filter, open }) => {
  const node = byId("hypervolume"), over = byId("over");
  const show = () => {
    const { data: traces, layout } = figures[over?.value ?? "trial"];
    const kept = traces.map((trace) => ({ ...filter.trace(trace), visible: !filter.hidden.has(trace.legendgroup) }));
    const shown = { ...layout, showlegend: traces.length > 2, dragmode: false };
    return draw(node, kept, shown, { ...data.config, displayModeBar: false });
  };
  over?.addEventListener("change", show);
  setTimeout(async () => {
    await show(); // after what is above the fold
    node.on("plotly_click", (event) => event.points[0].customdata >= 0 && open(event.points[0].customdata, true));
  });
  return { draw: show };
});
