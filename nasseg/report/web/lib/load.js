// Loads what the file holds: packed blocks, and the plotting library.

import { byId, el } from "./dom.js";

// The plotting library is inside the file, or beside it.
export async function loadLibrary() {
  const source = byId("library").dataset.src;
  if (!source) return document.head.append(el("script", {}, await unpack("library")));
  const script = el("script", { src: source });
  const loaded = new Promise((resolve, reject) => Object.assign(script, { onload: resolve, onerror: reject }));
  document.head.append(script);
  await loaded.catch(() => Promise.reject(new Error(`The charts need ${source} beside this page.`)));
}

export async function unpack(id) {
  const text = atob(byId(id).textContent), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}
