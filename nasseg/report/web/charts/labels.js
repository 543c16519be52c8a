// Names of published networks on the front.

// Names of published networks cover neither each other nor a star, and if possible not the front. A name that finds no
// place is shown on hover only.
export function placeLabels(front) {
  const { node, data, axes } = front;
  if (axes.z) return;
  const index = node.data.findIndex((trace) => trace.meta === "published");
  const trace = node.data[index], size = node.querySelector(".nsewdrag").getBoundingClientRect();
  const pen = document.createElement("canvas").getContext("2d");
  pen.font = `12px ${node.layout.font.family}`;
  const pixel = (letter, value, length) => {
    const { type, range } = node.layout[`${letter}axis`];
    return (((type === "log" ? Math.log10(value) : value) - range[0]) / (range[1] - range[0])) * length;
  };
  const at = (x, y) => [pixel("x", x, size.width), size.height - pixel("y", y, size.height)];
  const marks = trace.x.map((x, i) => (x === null || trace.y[i] === null ? null : at(x, trace.y[i])));
  const taken = marks.filter(Boolean).map((mark) => square(mark, 8));
  for (const text of node.querySelectorAll(".shapelayer text")) { // limits and the budget
    const { left, top, right, bottom } = text.getBoundingClientRect();
    taken.push([left - size.left, top - size.top, right - size.left, bottom - size.top]);
  }
  const marked = node.data.filter((t) => t.meta === "trials" && t.marker.opacity === 1 && t.visible);
  const full = marked.flatMap((t) => t.x.map((x, i) => square(at(x, t.y[i]), 6)));
  const apart = (box, others) => others.every((t) => box[2] < t[0] || t[2] < box[0] || box[3] < t[1] || t[3] < box[1]);
  const inside = (box) => box[0] >= 0 && box[1] >= 0 && box[2] <= size.width && box[3] <= size.height;
  const { keys, names: all } = data.rows;
  const names = trace.customdata.map((row) => all[row - keys.length]);
  const whole = data.front.data[index].text, texts = [], places = [];
  marks.forEach((mark, i) => {
    const width = pen.measureText(names[i]).width + 4;
    const options = mark ? Object.entries(boxes(mark, width)) : [];
    const free = options.filter(([, box]) => inside(box) && apart(box, taken));
    const found = free.find(([, box]) => apart(box, full)) ?? free[0];
    if (found) taken.push(found[1]);
    texts.push(found ? whole[trace.customdata[i] - keys.length] : "");
    places.push(found ? found[0] : "top center");
  });
  const key = JSON.stringify([texts, places]);
  if (key === JSON.stringify([trace.text, trace.textposition])) return;
  return Plotly.restyle(node, { text: [texts], textposition: [places] }, [index]);
}

const square = ([x, y], half) => [x - half, y - half, x + half, y + half];

// The places around a star for a label of that width: [left, top, right, bottom] in pixels.
function boxes([x, y], width) {
  const centre = [x - width / 2, x + width / 2], left = [x - 11 - width, x - 11], right = [x + 11, x + 11 + width];
  const box = ([from, to], top) => [from, top, to, top + 16];
  return {
    "top center": box(centre, y - 26), "bottom center": box(centre, y + 10), "middle right": box(right, y - 8),
    "middle left": box(left, y - 8), "top right": box(right, y - 26), "top left": box(left, y - 26),
    "bottom right": box(right, y + 10), "bottom left": box(left, y + 10),
  };
}
