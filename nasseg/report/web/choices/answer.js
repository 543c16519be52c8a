// The best network within a budget, among those that the filter keeps. Python says the same for the first budget.

import { copies } from "../lib/copy.js";
import { byId, el } from "../lib/dom.js";
import { remember, setting } from "../lib/fragment.js";
import { number, parseNumber, sentence } from "../lib/words.js";
import { predictionsOf } from "../network/predictions.js";

export class Answer {
  constructor(data, filter, changed) {
    Object.assign(this, { rows: data.rows, ...data.budget, filter, changed, row: null });
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
    copies(byId("copy-export"), () => this.export.join(this.rows.keys[this.row]));
    copies(byId("copy-link"), () => (this.remember(), location.href));
    this.first = [figure.value, Number(slider.parentNode.dataset.start)];
    const [name, budget] = setting("budget")?.split(":") ?? this.first;
    figure.value = name;
    if (figure.value === "") figure.value = this.first[0]; // a link to another study's page
    this.choose(figure.value, Number(budget) || this.first[1]);
  }

  values() {
    return this.rows.finished.map((row) => this.rows.figures[this.figure].values[row]).filter((value) => value !== null);
  }

  // Rounded outwards, so that the slider covers the values of all networks.
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
    const found = this.best(), before = this.row;
    clearTimeout(this.timer); // browsers refuse hundreds of changes of the address
    this.timer = setTimeout(() => this.remember(), 200);
    this.row = found.first;
    byId("answer").replaceChildren(...this.card(found));
    if (this.row !== before && !(before === null && this.isFirst)) this.showPictures(this.row); // the first ones are there
    byId("copy-export").hidden = this.row === undefined;
    this.changed(this.figure, this.budget, this.row);
  }

  get isFirst() {
    return this.figure === this.first[0] && this.budget === this.first[1];
  }

  remember() {
    remember({ budget: this.isFirst ? null : `${this.figure}:${this.budget}` });
  }

  async showPictures(row) {
    const shown = row === undefined ? [] : await predictionsOf(row);
    if (row === this.row) byId("answer-pictures").replaceChildren(...shown); // it may be another by now
  }

  best() {
    const { finished, figures, keys, networks, ran, names, over } = this.rows;
    const gains = figures[this.gain.name].values, spent = figures[this.figure].values;
    const sign = this.gain.direction === "maximize" ? -1 : 1;
    const known = (row) => gains[row] !== null && spent[row] !== null && this.filter.keeps(row);
    const fits = (row) => known(row) && spent[row] <= this.budget;
    const better = (a, b) => sign * (gains[a] - gains[b]) || spent[a] - spent[b] || a - b;
    const rows = finished.filter((row) => !(row in over) && fits(row)).sort(better), [first] = rows;
    const other = rows.find((row) => networks[row] !== networks[first]);
    const points = names.map((_, i) => keys.length + i).filter((row) => known(row) && names[row - keys.length] !== ran[first]);
    const fitting = points.filter(fits), within = fitting.filter((row) => !(row in over));
    const [published] = ([within, fitting, points].find((list) => list.length) ?? []).sort((a, b) => sign * (gains[a] - gains[b]) || a - b);
    return { first, other, published };
  }

  // Name, figures, weakest classes and what they are based on, as Python writes them for the first budget.
  card({ first, other, published }) {
    const { figures, families, ran, disturbed } = this.rows, { label, unit } = figures[this.figure];
    if (first === undefined) return [el("p", {}, `No finished network is within ${number(this.budget, unit)} and all limits of the study.`)];
    const [basis, weakest] = this.cards[first], as = first in ran ? `, published as ${ran[first]}` : "";
    const order = [...new Set([this.gain.name, this.figure, ...Object.keys(figures)])].slice(0, 3).map((name) => figures[name]);
    const shown = order.filter(({ values }) => values[first] !== null);
    const classes = weakest.flatMap(([text, poor]) => [", ", el("span", poor ? { class: "poor" } : {}, text)]).slice(1);
    return [
      el("p", { class: "name" }, el("strong", {}, this.link(first), ` ${families[first]}${as}`)),
      el("ul", { class: "figures" }, ...shown.map((of) => el("li", {}, el("strong", {}, number(of.values[first], of.unit)), ` ${of.label}`))),
      classes.length ? el("p", { class: "weakest" }, "Weakest classes: ", ...classes) : null,
      el("p", {}, ...this.comparison(first, other, published)),
      el("p", { class: "note" }, `Best with ${label} up to ${number(this.budget, unit)}.`, this.bases[basis] ? ` Based on ${this.bases[basis]}.` : ""),
      first in disturbed ? el("p", { class: "warning" }, `${sentence(disturbed[first])}.`) : null,
    ].filter(Boolean);
  }

  link(row) {
    return el("a", { href: `#trial-${this.rows.keys[row]}` }, `#${this.rows.keys[row]}`);
  }

  comparison(first, other, published) {
    const { figures, keys, names, over } = this.rows, { label, unit, values: spent } = figures[this.figure];
    const gains = figures[this.gain.name].values, name = names[published - keys.length];
    const beyond = published === undefined ? undefined : over[published] ?? (spent[published] > this.budget ? `${label} ${number(spent[published], unit)}, over the budget of ${number(this.budget, unit)}` : undefined);
    const known = published !== undefined && beyond === undefined, leads = [];
    if (other !== undefined) leads.push(this.lead(first, other, ["the runner-up, ", this.link(other)]));
    if (known) leads.push(this.lead(first, published, [name]));
    const parts = leads.length ? [`${sentence(this.gain.label)}: `, ...leads[0]] : [];
    if (leads[1]) parts.push(", and ", ...leads[1]);
    parts.push(known ? ", the best published network within this budget. " : leads.length ? ". " : "");
    if (beyond !== undefined) parts.push(`Published ${name}: ${number(gains[published], this.gain.unit)}, but ${beyond}. `);
    else if (!known && names.length) parts.push("No published network is known to be within this budget. ");
    if (this.trained && this.apart === null && leads.length) parts.push("Each has only one seed, so another seed may change the order.");
    return parts;
  }

  // Compares the first with another, which is called `who`, in words.
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
