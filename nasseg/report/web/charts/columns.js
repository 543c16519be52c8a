// The columns that an axis, or the colour, may show: figures, and parameters with their levels in order.

import { number } from "../lib/words.js";

const PARAMETER = "arch."; // before a parameter's name, which may be that of a figure

export class Columns {
  constructor({ rows, axes }) {
    Object.assign(this, { rows, axes, known: new Map() });
    this.names = [...Object.keys(axes), ...Object.keys(rows.choices).map((name) => PARAMETER + name)];
  }

  // {name, title (plain text), values, log, direction, layout (of a Plotly axis), limits, levels (of a parameter)}
  get(name) {
    if (!this.known.has(name)) this.known.set(name, name in this.axes ? this.figure(name) : this.parameter(name));
    return this.known.get(name);
  }

  figure(name) {
    const { unit, values } = this.rows.figures[name];
    return { name, unit, values, ...this.axes[name] };
  }

  // Networks of one level lie side by side, not on each other.
  parameter(name) {
    const parameter = name.slice(PARAMETER.length), { levels, codes } = this.rows.choices[parameter];
    const values = codes.map((code, row) => (code < 0 ? null : code + 0.5 * (((row * 0.618034) % 1) - 0.5)));
    const range = [-0.6, levels.length - 0.4];
    const layout = { type: "linear", tickvals: levels.map((_, i) => i), ticktext: levels.map(escaped), range, automargin: true };
    return { name, parameter, levels, codes, values, title: parameter, log: false, direction: null, limits: { x: [], y: [] }, layout };
  }
}

// Escapes text of a study for Plotly, which understands some markup.
export function escaped(text) {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

// Breaks text into lines of at most that many letters for Plotly, after a space or a hyphen if there is one.
export function lines(text, width) {
  const found = [""];
  for (const part of text.split(/(?<=[ -])/).flatMap((long) => long.match(new RegExp(`.{1,${width}}`, "gs")) ?? [])) {
    const last = found.length - 1;
    if (found[last].length + part.trimEnd().length <= width) found[last] += part;
    else found.push(part);
  }
  return found.map((line) => escaped(line.trimEnd())).join("<br>");
}

const DIGITS = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 5, 7], [1, 2, 5], [1, 3], [1]];

// Ticks of a log axis from one value to another, with their numbers in full: as many digits of a decade as there is room
// for. If the range is so short that even all digits are too few, the ticks are round steps.
export function logTicks(from, to) {
  const powers = [];
  for (let power = Math.floor(Math.log10(from)); power <= Math.log10(to); power++) powers.push(power);
  const within = (digits) => powers.flatMap((power) => digits.map((digit) => Number(`${digit}e${power}`))).filter((tick) => tick >= from && tick <= to);
  const choices = DIGITS.map(within);
  let ticks = choices.find((found) => found.length <= 9) ?? choices[choices.length - 1];
  if (choices[0].length < 4) {
    const rough = (to - from) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((digit) => digit * power).find((one) => one >= rough);
    ticks = [];
    for (let i = Math.ceil(from / step); i * step <= to; i++) ticks.push(Number((i * step).toPrecision(6)));
  }
  return { tickvals: ticks, ticktext: ticks.map((tick) => number(tick)) };
}

// The range of an axis on which all values are the same: Plotly's own would be so short that its ticks all read alike.
export function aroundOne(values) {
  const [first, ...others] = values.filter(Number.isFinite);
  if (first === undefined || others.some((value) => value !== first)) return {};
  const room = Math.abs(first) / 10 || 1;
  return { range: [first - room, first + room], autorange: false };
}
