// Numbers in words, and words as numbers.

// Reads 30, 1.5G or 350 k as a number; NaN for other text.
export function parseNumber(text) {
  const found = /^\s*([-+]?[\d.]+(?:e[-+]?\d+)?)\s*([kMGT]?)\s*$/.exec(text.replaceAll(",", ""));
  return found ? Number(found[1]) * 1000 ** " kMGT".indexOf(found[2] || " ") : NaN;
}

// Rounds to four digits; a tie goes to the even one, as in Python.
function rounded(value) {
  const [digits, power] = value.toExponential(40).split("e"), [, head, even, rest] = /^(-?\d\.\d\d)(\d)(\d*)$/.exec(digits);
  return Number(/^50*$/.test(rest) && even % 2 === 0 ? `${head}${even}e${power}` : value.toPrecision(4));
}

// As Python's words.number: four digits, with k, M, G or T if the unit allows one.
export function number(value, unit = "") {
  const size = Math.abs(value);
  if (size >= 1e4 && !unit) {
    let power = Math.min(4, Math.floor(Math.log10(size) / 3));
    let scaled = rounded(value / 1000 ** power);
    if (Math.abs(scaled) >= 1000 && power < 4) scaled = rounded(value / 1000 ** ++power);
    return `${scaled} ${"kMGT"[power - 1]}`;
  }
  const text = size >= 1e4 ? Math.round(value).toLocaleString("en") : String(rounded(value));
  return `${text} ${unit}`.trimEnd();
}

// As Python's words.sentence: a capital first letter, unless the first word has capitals of its own (mIoU).
export function sentence(text) {
  const [word] = text.split(" ");
  return word === word.toLowerCase() ? text.slice(0, 1).toUpperCase() + text.slice(1) : text;
}

// A word of a command, quoted where a shell would read it otherwise.
export function shellWord(text) {
  return /^[\w@%+=:,./#-]+$/.test(text) && !text.startsWith("#") ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
}
