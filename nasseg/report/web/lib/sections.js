// Scripts of single sections: each gives what begins it, and the page begins all of them when its data are there.

const found = [];

// begin: called with the section's data and the page, {data, columns, filter, open, toggle}; returns {draw, mark,
// print}, all optional: draw is called when the filter changes, mark with the rows that are compared when they change, print draws
// before the page is printed what is not drawn yet.
export function section(key, begin) {
  found.push([key, begin]);
}

export function beginSections(page) {
  return found.flatMap(([key, begin]) => (page.data[key] ? [begin(page.data[key], page)] : []));
}
