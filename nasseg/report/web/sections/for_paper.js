// What a paper needs: the chart as a file, 8.5 or 17.5 cm wide, and the front as LaTeX, its sources as BibTeX.

import { figureFile } from "../charts/figure_file.js";
import { copyText } from "../lib/copy.js";
import { byId } from "../lib/dom.js";
import { save } from "../lib/download.js";
import { section } from "../lib/sections.js";
import { shellWord } from "../lib/words.js";

section("paper", ({ study, latex, bibtex }, { data }) => {
  const menu = byId("save-figure"), said = byId("save-message");
  const axes = () => Object.fromEntries(["x", "y", "z"].map((letter) => [letter, byId(`${letter}-axis`)?.value ?? ""]));
  const nameOf = ({ x, y, z }) => [data.study, x, y, ...(z ? [z] : [])].join("-").replace(/[^\w.-]+/g, "-");
  const wide = () => byId("save-width").value === "17.5";
  const savers = {
    svg: async (name) => save(`${name}.svg`, "image/svg+xml", await figureFile(data, axes(), Number(byId("save-width").value), "svg")),
    png: async (name) => save(`${name}.png`, "image/png", await figureFile(data, axes(), Number(byId("save-width").value), "png")),
    // A browser writes PDF of a whole page only. This command writes the chart, without a browser.
    pdf: async (name) => {
      const { x, y } = axes(), words = ["nasseg", "figure", study, "--x", x, "--y", y, ...(wide() ? ["--wide"] : []), "-o", `${name}.pdf`];
      const command = words.map(shellWord).join(" ");
      await copyText(command);
      return `Copied: ${command}`;
    },
  };
  for (const button of menu.querySelectorAll("button")) {
    const { format } = button.dataset;
    button.hidden = format === "pdf" && !study;
    button.addEventListener("click", async () => {
      const name = nameOf(axes());
      said.textContent = (await savers[format](name)) ?? `Saved: ${name}.${format}`;
    });
  }
  for (const [id, text] of [["copy-latex", latex], ["copy-bibtex", bibtex]]) {
    const button = byId(id), label = button.textContent;
    button.hidden = !text;
    button.addEventListener("click", async () => {
      await copyText(text);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = label), 2000);
    });
  }
  return {};
});
