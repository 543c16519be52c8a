// What networks predict, in pictures. They are unpacked once, when the first is needed.

import { el } from "../lib/dom.js";
import { unpack } from "../lib/load.js";

const PARTS = ["image", "labels", "prediction"];
let unpacked = null;
const known = () => (unpacked ??= unpack("pictures").then(JSON.parse));

function picture(file, part, number, of = "") {
  const what = `${part}${of} of validation image ${number}`;
  return el("img", { src: file, alt: what, title: what });
}

function key(classes) {
  const swatch = (colour) => {
    const node = el("i");
    node.style.background = colour;
    return node;
  };
  return el("p", { class: "classes" }, ...classes.map(([name, colour]) => el("span", {}, swatch(colour), name)));
}

// A row for each example of a network. Nothing if the study has no examples; a note if only other networks have some.
export async function predictionsOf(row) {
  const { files, rows } = await known();
  if (!(row in rows)) return files.length ? [el("p", { class: "note" }, "No predictions of this network are kept: a search keeps only those of its front.")] : [];
  const [classes, examples] = rows[row];
  const shown = examples.flatMap(([number, ...places]) => PARTS.map((part, i) => picture(files[places[i]], part, number)));
  return [el("div", { class: "predictions" }, ...PARTS.map((part) => el("span", {}, part)), ...shown), key(classes)];
}

// The same images for several networks: image, labels, then each network's prediction under its title.
export async function comparedPredictions(chosen, titles) {
  const { files, rows } = await known();
  const having = chosen.filter((row) => row in rows);
  if (!having.length) return [];
  const heads = ["image", "labels", ...chosen.map((row) => titles[row])].map((title) => el("span", {}, title));
  const [classes, first] = rows[having[0]];
  const shown = first.flatMap(([number, image, labels]) => [
    picture(files[image], "image", number),
    picture(files[labels], "labels", number),
    ...chosen.map((row) => {
      const found = rows[row]?.[1].find((example) => example[1] === image); // another study may have other images
      return found ? picture(files[found[3]], "prediction", number, ` of ${titles[row]}`) : el("span", { class: "note" }, "none kept");
    }),
  ]);
  const grid = el("div", { class: "predictions", tabindex: 0 }, ...heads, ...shown);
  grid.style.gridTemplateColumns = `repeat(${2 + chosen.length}, minmax(90px, 1fr))`;
  return [grid, key(classes)];
}
