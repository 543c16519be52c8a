// Charts in the page's colours. Python draws for a light page. On a dark page each of its colours becomes a variable of
// the style sheet; on paper it stays as it is.

const VARIABLES = {
  "#1d2733": "--ink", "#5d6977": "--soft", "#00649e": "--accent", "#9aa5b1": "--faded", "#8a94a0": "--faded", "#c3cad2": "--rule",
  "#d5dae0": "--rule", "#e7eaee": "--line", white: "--paper", "rgba(255,255,255,0.9)": "--paper", "rgba(255,255,255,0.75)": "--paper",
}; // prettier-ignore
const dark = matchMedia("(prefers-color-scheme: dark)"), drawn = new Map();
let printing = false;

// Plotly.react, in the page's colours now and whenever they change.
export function draw(node, traces, layout, config) {
  drawn.set(node, [traces, layout, config]);
  return Plotly.react(node, themed(traces), themed(layout), config);
}

// The traces and the layout of a chart as on a light page.
export function light(node) {
  return structuredClone(drawn.get(node).slice(0, 2));
}

// A layout, traces or parts of them in the page's colours.
export function themed(value) {
  if (!dark.matches || printing) return value;
  const style = getComputedStyle(document.documentElement);
  const colour = (text) => (text in VARIABLES ? style.getPropertyValue(VARIABLES[text]).trim() : text.replaceAll(" white", ` ${style.getPropertyValue("--paper")}`));
  const walk = (part) => {
    if (typeof part === "string") return colour(part);
    if (Array.isArray(part)) return typeof part[0] === "object" && !Array.isArray(part[0]) ? part.map(walk) : part; // no numbers or texts
    if (part === null || typeof part !== "object" || part.type === "heatmap") return part; // dark text on its own colours
    return Object.fromEntries(Object.entries(part).map(([key, inner]) => [key, walk(inner)]));
  };
  return walk(value);
}

// On paper charts are as on a light page.
export function recolour(paper) {
  printing = paper;
  if (dark.matches) redraw();
}

function redraw() {
  for (const [node, [traces, layout, config]] of drawn) Plotly.react(node, themed(traces), themed(layout), config);
  dispatchEvent(new Event("redrawn"));
}

dark.addEventListener("change", redraw);
