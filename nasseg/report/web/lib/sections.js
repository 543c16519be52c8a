// Scripts of single sections. Each gives a function that begins it; the page calls all of them once its data are there.

const found = [];

// begin: called with the section's data and the page, {data, columns, filter, open, toggle}. It returns {draw, mark,
// print}, all optional. draw is called when the filter changes, mark when the compared rows change (with these rows), and
// print before the page is printed, to draw what is not drawn yet.
export function section(key, begin) {
  found.push([key, begin]);
}

export function beginSections(page) {
  return found.flatMap(([key, begin]) => (page.data[key] ? [begin(page.data[key], page)] : []));
}
