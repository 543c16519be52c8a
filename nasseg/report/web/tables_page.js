// Draws each table's figure when it comes near the window.

import { unpack } from "./lib/load.js";
import { draw } from "./lib/theme.js";

(async () => {
  const { figures, config } = JSON.parse(await unpack("payload"));
  const library = document.createElement("script");
  library.textContent = await unpack("library");
  document.head.append(library);
  const show = (node) => {
    const { data, layout } = figures[node.dataset.table];
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a finger scrolls the page
    return draw(node, data, layout, config);
  };
  const seen = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) if (isIntersecting) { seen.unobserve(target); show(target); }
  }, { rootMargin: "600px" });
  document.querySelectorAll(".figure").forEach((node) => seen.observe(node));
  document.body.dataset.ready = "";
})();
