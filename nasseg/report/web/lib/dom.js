// Elements of the page. Text of a study only ever enters the page as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function el(name, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "text", "rect", "polygon", "circle", "title"].includes(name);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}


export function sortBy(header) {
  const body = header.closest("table").tBodies[0], index = header.cellIndex;
  const falling = header.getAttribute("aria-sort") === "ascending";
  const key = (row) => {
    const { dataset, textContent } = row.cells[index];
    return dataset.value === undefined ? textContent : dataset.value === "" ? Infinity : Number(dataset.value);
  };
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const order = (a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0) * (falling ? -1 : 1);
  body.append(...[...body.rows].sort(order));
}
