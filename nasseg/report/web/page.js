// Unpacks what the file holds, shows the figures that Python made, and links marks, tables, filter and panel.

import { Columns } from "./charts/columns.js";
import { Front } from "./charts/front.js";
import { walkMarks } from "./charts/marks.js";
import { Answer } from "./choices/answer.js";
import { Filter } from "./choices/filter.js";
import { byId, el, sortBy } from "./lib/dom.js";
import { csvOf, jsonOf, save } from "./lib/download.js";
import { followLinks, remember, setting } from "./lib/fragment.js";
import { loadLibrary, unpack } from "./lib/load.js";
import { onPaper } from "./lib/paper.js";
import { beginSections } from "./lib/sections.js";
import { Compare } from "./network/compare.js";
import { panelOf } from "./network/panel.js";
import { predictionsOf } from "./network/predictions.js";

async function start() {
  document.body.dataset.ready = "yes";
  if (!byId("front")) return;
  const library = loadLibrary(), payload = unpack("payload"); // both at once
  const data = JSON.parse(await payload);
  try {
    await library;
  } catch ({ message }) {
    return byId("panel").replaceChildren(el("p", { class: "warning" }, message));
  }
  let packed = null;
  const details = () => (packed ??= unpack("details").then(JSON.parse)); // the panels' contents: only when asked for
  const panel = byId("panel"), rows = new Map(data.rows.keys.map((key, row) => [key, row]));
  const tableRows = [...document.querySelectorAll("#front-table tbody tr")];
  const rowOf = (line) => rows.get(line.id.replace("trial-", ""));

  const columns = new Columns(data);
  const filter = new Filter(data, columns, () => {
    front.draw(false);
    answer?.update();
    for (const line of tableRows) line.hidden = !filter.keeps(rowOf(line));
    for (const { draw } of sections) draw?.();
  });
  let front = null; // drawn once, with the budget in it
  const answer = byId("answer") && new Answer(data, filter, (figure, value, row) => front?.setBudget(figure, value, row));
  front = new Front(data, columns, filter, answer && [answer.figure, answer.budget], answer?.row);

  let opened = null, compare = null;
  const mark = () => front.choose(opened === null ? [] : [opened], compare?.rows ?? []);
  const toggle = async (row) => {
    compare ??= new Compare(await details(), data.better, () => {
      mark();
      for (const { mark: also } of sections) also?.(compare.rows);
      for (const line of tableRows) line.querySelector("input").checked = compare.rows.includes(rowOf(line));
      remember({ compare: compare.rows.map((one) => data.rows.keys[one] ?? data.rows.names[one - data.rows.keys.length]).join("|") });
      const button = panel.querySelector(".pick");
      if (button) button.textContent = pickLabel(opened);
    });
    if (!compare.rows.length && opened !== null && opened !== row) compare.toggle(opened);
    compare.toggle(row);
  };
  const pickLabel = (row) => (compare?.rows.includes(row) ? "Remove from the comparison" : "Compare");

  // The panel stands where the answer stood.
  const close = () => {
    delete document.body.dataset.opened;
    panel.replaceChildren();
    opened = null;
    mark();
    for (const line of tableRows) line.classList.remove("chosen");
    remember({ trial: null });
  };

  const open = async (row, jump) => {
    const detail = (await details())[row], pick = el("button", { type: "button", class: "pick" }, pickLabel(row));
    pick.addEventListener("click", () => toggle(row));
    const [title, ...rest] = panelOf(detail);
    const back = answer && el("button", { type: "button", class: "back" }, "Back to the answer");
    back?.addEventListener("click", close);
    panel.replaceChildren(title, el("p", { class: "actions" }, back, " ", pick), ...(await predictionsOf(row)), ...rest);
    panel.scrollTop = 0;
    opened = row;
    document.body.dataset.opened = "yes";
    mark();
    for (const line of tableRows) line.classList.toggle("chosen", line.id === `trial-${detail.key}`);
    if (detail.key !== undefined) remember({ trial: detail.key });
    const { top, bottom } = panel.getBoundingClientRect();
    if (jump || top > innerHeight * 0.7) {
      panel.focus({ preventScroll: true });
      if (top < 0 || top > innerHeight * 0.5 || bottom < 0) (innerWidth > 860 ? byId("front") : panel).scrollIntoView({ block: "start" });
    }
  };
  const sections = beginSections({ data, columns, filter, open, toggle });
  const openTrial = (key, jump) => (rows.has(key) ? open(rows.get(key), jump) : null);

  await front.drawn;
  front.node.on("plotly_click", ({ event, points }) => {
    if (points[0].customdata !== undefined) (event?.shiftKey ? toggle : open)(points[0].customdata, false);
  });
  walkMarks(front, open, toggle);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#trial-']");
    if (!link) return;
    event.preventDefault();
    openTrial(link.hash.replace("#trial-", ""), true);
  });
  byId("go").addEventListener("submit", (event) => {
    event.preventDefault();
    const row = rows.get(byId("go-number").value.replace("#", "").trim().toUpperCase());
    byId("go-message").textContent = row === undefined ? "This page has no such trial." : "";
    if (row !== undefined) open(row, true);
  });
  for (const line of tableRows) {
    const box = el("input", { type: "checkbox", "aria-label": `Compare ${line.cells[0].textContent}`, title: "Compare" });
    box.addEventListener("change", () => toggle(rowOf(line)));
    line.cells[0].prepend(box, " ");
  }
  for (const header of document.querySelectorAll("#front-table th:has(button)")) {
    header.firstChild.addEventListener("click", () => sortBy(header));
  }
  const trials = async () => JSON.parse(await unpack("trials-file")), file = data.study.replace(/[^\w.-]+/g, "-");
  byId("csv").addEventListener("click", async () => save(`${file}.csv`, "text/csv", csvOf((await trials()).trials)));
  byId("json").addEventListener("click", async () => save(`${file}.json`, "application/json", jsonOf(await trials())));

  onPaper(() => sections.forEach(({ print }) => print?.()));
  followLinks();
  filter.restore();
  const places = new Map([...data.rows.names.map((name, i) => [name, data.rows.keys.length + i]), ...rows]);
  for (const name of (setting("compare") ?? "").split("|")) if (places.has(name)) await toggle(places.get(name));
  await openTrial(setting("trial"), false);
  document.body.dataset.drawn = "yes";
  setTimeout(details, 300); // so that the first click need not wait for them
}

start();
