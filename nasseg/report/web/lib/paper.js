import { recolour } from "./theme.js";

// Prepares the page for print: charts get the paper's width, and folded parts are unfolded (a study file stays folded).
// before: draws what is not drawn yet.
export function onPaper(before) {
  const drawn = () => [...document.querySelectorAll(".js-plotly-plot")];
  const height = (chart) => (chart.matches(".half") ? 320 : chart.matches(".low") ? 240 : chart.matches(".importance, .figure") ? chart.layout.height : 400);
  let folds = [], heights = new Map();
  addEventListener("beforeprint", () => {
    before();
    recolour(true);
    folds = [...document.querySelectorAll("main details:not([open], #filters, :has(> pre))")];
    for (const fold of folds) fold.open = true;
    heights = new Map(drawn().map((chart) => [chart, chart.layout.height]));
    for (const chart of drawn()) Plotly.relayout(chart, { autosize: false, width: chart.matches(".half") ? 330 : 680, height: height(chart) });
  });
  addEventListener("afterprint", () => {
    for (const fold of folds) fold.open = false;
    for (const chart of drawn()) Plotly.relayout(chart, { autosize: true, width: null, height: heights.get(chart) ?? null });
    recolour(false);
  });
}
