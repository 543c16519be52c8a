// The papers' tables: finds and unfolds them, and draws a table's figures when it is unfolded and near the window.

import { copyText } from "./lib/copy.js";
import { byId } from "./lib/dom.js";
import { unpack } from "./lib/load.js";
import { onPaper } from "./lib/paper.js";
import { draw } from "./lib/theme.js";

(async () => {
  document.body.dataset.ready = "";
  const tables = [...document.querySelectorAll("main > section[id]")].map((node) => ({ node, fold: node.querySelector("details"), text: node.textContent.toLowerCase() }));
  const { figures, config, latex } = JSON.parse(await unpack("payload"));
  const library = document.createElement("script");
  library.textContent = await unpack("library");
  document.head.append(library);

  const waiting = new Set(document.querySelectorAll(".figure"));
  const show = (node) => {
    if (!waiting.delete(node)) return;
    const { data, layout } = figures[node.dataset.figure];
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
    draw(node, data, layout, config);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) { seen.unobserve(target); show(target); }
  }, { rootMargin: "600px" });
  for (const node of waiting) seen.observe(node);

  const fields = ["paper", "cells", "trend"].map((name) => [name, byId(`bar-${name}`)]), search = byId("bar-search");
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link.parentNode]));
  const choose = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { node, text } of tables) {
      node.hidden = !words.every((word) => text.includes(word)) || fields.some(([name, { value }]) => value && node.dataset[name] !== value);
      links.get(node.id).hidden = node.hidden;
      shown += !node.hidden;
    }
    for (const head of document.querySelectorAll("nav h3")) head.hidden = [...head.nextElementSibling.children].every((item) => item.hidden);
    byId("bar-count").textContent = `${shown} of ${tables.length} tables`;
  };
  search.addEventListener("input", choose);
  for (const [, field] of fields) field.addEventListener("change", choose);
  byId("bar").addEventListener("submit", (event) => event.preventDefault());
  choose();

  const unfold = byId("unfold"), fold = (open) => tables.forEach((table) => (table.fold.open = open && !table.node.hidden));
  unfold.addEventListener("click", () => {
    const open = unfold.textContent === "Unfold all";
    fold(open);
    unfold.textContent = open ? "Fold all" : "Unfold all";
  });
  const follow = () => {
    const node = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!node?.matches("main > section")) return;
    node.querySelector("details").open = true;
    node.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  document.querySelector("nav").addEventListener("click", ({ target }) => target.closest("a") && setTimeout(follow)); // also of the same link again
  document.querySelector("main").addEventListener("click", async ({ target }) => {
    if (!target.dataset.latex) return;
    await copyText(latex[target.dataset.latex]);
    target.textContent = "Copied";
    setTimeout(() => (target.textContent = "Copy as LaTeX"), 2000);
  });

  let folded = [];
  addEventListener("afterprint", () => folded.forEach((table) => (table.fold.open = false)));
  onPaper(() => {
    folded = tables.filter((table) => !table.fold.open);
    fold(true);
    for (const { node } of tables) if (!node.hidden) node.querySelectorAll(".figure").forEach(show);
  });
  follow();
  document.body.dataset.drawn = "yes";
})();
