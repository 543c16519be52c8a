// The address's fragment, key=value&..., holds what the reader has set, so that a copied link shows the same.
// No other module reads or writes it; each owner of a setting has keys of its own.

// "#trial-12" comes from a plain link to a trial; any other name is a place on the page.
function entries() {
  const text = location.hash.slice(1).replace(/^trial-(?=[^=&]+$)/, "trial=");
  return new URLSearchParams(text.includes("=") ? text : "");
}

// The value of a key as text; null if it is not set.
export function setting(key) {
  return entries().get(key);
}

// [key, value] of each key with this beginning.
export function settingsFrom(start) {
  return [...entries()].filter(([key]) => key.startsWith(start));
}

// Sets keys: {key: value}; null, undefined and "" remove one. Keys keep their order, and no step is added to the
// browser's history.
export function remember(changes) {
  const kept = entries();
  for (const [key, value] of Object.entries(changes)) {
    if (value === null || value === undefined || value === "") kept.delete(key);
    else kept.set(key, value);
  }
  const text = [...kept].map((pair) => pair.map(plain).join("=")).join("&");
  if (text) history.replaceState(null, "", `#${text}`);
  else if (location.hash.includes("=")) history.replaceState(null, "", location.pathname + location.search);
}

// Encodes a text, except for characters that a fragment may hold as they are.
const plain = (text) => encodeURIComponent(text).replace(/%(?:2C|3A|2F|40|3B)/g, decodeURIComponent);

// A link to this page with other settings shows them.
export function followLinks() {
  addEventListener("hashchange", () => location.hash.includes("=") && location.reload());
}
