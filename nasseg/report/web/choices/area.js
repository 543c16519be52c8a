// An area that was drawn around marks: {x, y, log: [of x, of y], points: [[x, y], ...]}. Its sides are straight lines
// between the points on the chart.

const MOST = 24; // points: the area is part of a link

export function thinned(points) {
  const step = Math.ceil(points.length / MOST);
  return points.filter((_, i) => i % step === 0).map((point) => point.map((value) => Number(value.toPrecision(4))));
}

export function inside({ log, points }, x, y) {
  if (!Number.isFinite(x) || !Number.isFinite(y)) return false;
  const place = (point) => point.map((value, i) => (log[i] ? Math.log10(value) : value));
  const corners = points.map(place), [px, py] = place([x, y]);
  let within = false;
  corners.forEach(([ax, ay], i) => {
    const [bx, by] = corners[(i + 1) % corners.length]; // an even-odd count of the edges to the right
    if (ay > py !== by > py && px < ax + ((bx - ax) * (py - ay)) / (by - ay)) within = !within;
  });
  return within;
}
