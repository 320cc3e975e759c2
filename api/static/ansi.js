// Colours and styles of terminals (ECMA-48 SGR)

const ESCAPES = /\x1b(?:\[([0-9;:]*)m|\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;

function sgr(state, codes) {
  const next = { ...state };
  const list = codes === "" ? [0] : codes.split(/[;:]/).map(Number);
  for (let i = 0; i < list.length; i++) {
    const code = list[i];
    if (code === 0) for (const key of Object.keys(next)) delete next[key];
    else if (code === 1) next.b = true;
    else if (code === 2) next.d = true;
    else if (code === 3) next.i = true;
    else if (code === 4) next.u = true;
    else if (code === 9) next.s = true;
    else if (code === 22) delete next.b, delete next.d;
    else if (code === 23) delete next.i;
    else if (code === 24) delete next.u;
    else if (code === 29) delete next.s;
    else if (code >= 30 && code <= 37) next.f = code - 30;
    else if (code === 39) delete next.f;
    else if (code >= 40 && code <= 47) next.g = code - 40;
    else if (code === 49) delete next.g;
    else if (code >= 90 && code <= 97) next.f = code - 82;
    else if (code >= 100 && code <= 107) next.g = code - 100;
    else if (code === 38 || code === 48) {
      const key = code === 38 ? "f" : "g";
      if (list[i + 1] === 5) next[key] = indexed(list[i + 2], key), i += 2;
      else if (list[i + 1] === 2) next[key] = `rgb(${list[i + 2] | 0},${list[i + 3] | 0},${list[i + 4] | 0})`, i += 4;
    }
  }
  return next;
}

function indexed(n, key) {
  if (n < 16) return key === "f" ? n : n % 8;
  if (n >= 232) return ((v) => `rgb(${v},${v},${v})`)(8 + (n - 232) * 10);
  const level = (v) => (v ? 55 + v * 40 : 0);
  return `rgb(${level(Math.floor((n - 16) / 36))},${level(Math.floor((n - 16) / 6) % 6)},${level((n - 16) % 6)})`;
}

// The pieces of a line that look alike, each with its style, and the style that the next line begins with.
export function parse(text, state) {
  const pieces = [];
  let from = 0;
  for (const match of text.matchAll(ESCAPES)) {
    if (match.index > from) pieces.push([text.slice(from, match.index), state]);
    if (match[1] !== undefined) state = sgr(state, match[1]);
    from = match.index + match[0].length;
  }
  if (from < text.length) pieces.push([text.slice(from), state]);
  return [pieces, state];
}

export function span(text, state) {
  const node = document.createElement("span");
  for (const key of ["b", "d", "i", "u", "s"]) if (state[key]) node.classList.add(key);
  for (const [key, property] of [["f", "color"], ["g", "backgroundColor"]]) {
    const value = state[key];
    if (typeof value === "number") node.classList.add(key + value);
    else if (value) node.style[property] = value;
  }
  node.textContent = text;
  return node;
}
