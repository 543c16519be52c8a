// The best network within a budget, among those that the filter keeps; Python says the same of the first budget.

import { byId, el } from "../lib/dom.js";
import { number, parseNumber } from "../lib/words.js";

export class Budget {
  constructor(data, filter, changed) {
    Object.assign(this, { rows: data.rows, ...data.budget, filter, changed });
    const slider = byId("budget-slider"), value = byId("budget-value"), figure = byId("budget-figure");
    const { min, max } = slider;
    this.at = (place) => {
      const [low, high] = this.ends(), share = (place - min) / (max - min);
      return Number((this.log ? low * (high / low) ** share : low + (high - low) * share).toPrecision(3));
    };
    this.place = (budget) => {
      const [low, high] = this.ends();
      const share = this.log ? Math.log(budget / low) / Math.log(high / low) : (budget - low) / (high - low);
      return Math.round(Number(min) + share * (max - min));
    };
    figure.addEventListener("change", () => this.choose(figure.value));
    slider.addEventListener("input", () => this.set(this.at(Number(slider.value)), true));
    value.addEventListener("change", () => this.set(parseNumber(value.value)));
    this.choose(figure.value, Number(slider.parentNode.dataset.start));
  }

  values() {
    return this.rows.finished.map((row) => this.rows.figures[this.figure].values[row]).filter((value) => value !== null);
  }

  // Rounded outwards, so that both ends of the slider have all or one.
  ends() {
    return this.range;
  }

  choose(figure, budget) {
    this.figure = figure;
    const values = this.values().sort((a, b) => a - b), [low, high] = [values[0], values[values.length - 1]];
    const step = (value) => 10 ** (Math.floor(Math.log10(Math.abs(value) || 1)) - 2);
    this.range = [Math.floor(low / step(low)) * step(low), Math.ceil(high / step(high)) * step(high)];
    this.log = low > 0 && high / low > 5;
    byId("budget-unit").textContent = this.rows.figures[figure].unit;
    this.set(budget ?? Math.max(low, Number(values[Math.floor(values.length / 2)].toPrecision(2))));
  }

  set(budget, slid = false) {
    if (!(budget > 0)) return;
    this.budget = budget;
    const shown = number(budget, this.rows.figures[this.figure].unit ? "x" : "").replace(/ x$/, "");
    byId("budget-value").value = shown;
    const slider = byId("budget-slider");
    if (!slid) slider.value = this.place(budget);
    slider.setAttribute("aria-valuetext", number(budget, this.rows.figures[this.figure].unit));
    this.update();
  }

  update() {
    byId("answer").replaceChildren(...this.sentence());
    this.changed(this.figure, this.budget);
  }

  best() {
    const { finished, figures, keys, networks, ran, names, over } = this.rows;
    const gains = figures[this.gain.name].values, spent = figures[this.figure].values;
    const sign = this.gain.direction === "maximize" ? -1 : 1;
    const fits = (row) => gains[row] !== null && spent[row] !== null && spent[row] <= this.budget && this.filter.keeps(row);
    const better = (a, b) => sign * (gains[a] - gains[b]) || spent[a] - spent[b] || a - b;
    const rows = finished.filter((row) => !(row in over) && fits(row)).sort(better), [first] = rows;
    const other = rows.find((row) => networks[row] !== networks[first]);
    const points = names.map((_, i) => keys.length + i).filter((row) => fits(row) && names[row - keys.length] !== ran[first]);
    const within = points.filter((row) => !(row in over)), published = within.length ? within : points;
    return { first, other, published: published.sort((a, b) => sign * (gains[a] - gains[b]) || a - b)[0] };
  }

  sentence() {
    const { figures, keys, families, names, ran, over, disturbed } = this.rows, { unit } = figures[this.figure];
    const { first, other, published } = this.best(), gains = figures[this.gain.name].values;
    if (first === undefined) return [`No finished network is within ${number(this.budget, unit)} and all limits of the study.`];
    const link = (row) => el("a", { href: `#trial-${keys[row]}` }, `#${keys[row]}`);
    const as = ran[first] === undefined ? "" : ` (published as ${ran[first]})`;
    const doubt = first in disturbed ? ` (${disturbed[first]})` : "";
    const parts = [`Within ${number(this.budget, unit)}: `];
    parts.push(el("strong", {}, link(first), ` ${families[first]}${as}`), `, ${this.gain.label} `);
    parts.push(el("strong", {}, number(gains[first], this.gain.unit)), ` at ${number(figures[this.figure].values[first], unit)}${doubt}`);
    if (other !== undefined) parts.push(", ", ...this.lead(first, other, ["the runner-up, ", link(other)]));
    const known = published !== undefined && !(published in over), name = names[published - keys.length];
    if (known) {
      parts.push(other === undefined ? ", " : ", and ", ...this.lead(first, published, [name]));
      parts.push(", the best published network within this budget.");
    } else if (published !== undefined) {
      parts.push(`. Published ${name}: ${number(gains[published], this.gain.unit)}, but ${over[published]}.`);
    } else {
      parts.push(names.length ? ". No published network is known to be within this budget." : ".");
    }
    const lone = this.trained && this.apart === null && (other !== undefined || known);
    return lone ? [...parts, " Each has one seed only, so another seed may change the order."] : parts;
  }

  // How the first compares with another, which is called `who`.
  lead(first, other, who) {
    const gains = this.rows.figures[this.gain.name].values, difference = gains[first] - gains[other];
    const points = (value) => number(Number(Math.abs(value).toPrecision(3)), this.gain.unit === "%" ? "points" : this.gain.unit);
    if (difference === 0) return ["as much as ", ...who];
    if (this.trained && this.apart !== null && Math.abs(difference) < this.apart) {
      return ["too close to call with ", ...who, ` (${points(difference)} apart; two seeds of one network differ by up to ${points(this.apart)})`];
    }
    return [`${points(difference)} ${difference > 0 ? "more" : "less"} than `, ...who];
  }
}
