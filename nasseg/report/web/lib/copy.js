// Buttons that copy a text.

// text: gives what to copy at the time of the click. The button says for a moment that it was copied.
export function copies(button, text) {
  const label = button.textContent;
  let timer = null;
  button.addEventListener("click", async () => {
    const done = await copyText(text());
    button.textContent = done ? "Copied" : "Not copied: the browser refused";
    clearTimeout(timer);
    timer = setTimeout(() => (button.textContent = label), 2000);
  });
}

// On a file from the disk some browsers give no access to the clipboard. The older way works, but needs a selection.
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.createElement("textarea");
    field.value = text;
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
