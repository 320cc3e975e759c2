// The log of a step. Only the lines that are seen, and some around them, are in the page: the rest is known by an index of
// where each few hundred lines begin, and read by ranges of bytes when it comes into view.

import { parse, span } from "./ansi.js";

const MARGIN = 60; // lines drawn above and below what is seen
const KEEP = 80; // blocks of lines that are held
const TALLEST = 12e6; // pixels; browsers give up somewhere above
const WIDEST = 20000; // characters of one line that are shown

function remember(name, on) {
  try { localStorage.setItem(name, on); } catch { /* private window */ }
}

function remembered(name) {
  try { return localStorage.getItem(name) === "true"; } catch { return false; }
}

// 0.4 s, 12 s, 3:05 min, 1:02:40 h
function length(ms) {
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const two = (n) => String(n).padStart(2, "0");
  const [minutes, hours] = [Math.floor(seconds / 60) % 60, Math.floor(seconds / 3600)];
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)} h` : `${minutes}:${two(seconds % 60)} min`;
}

// Of a line that a program drew over and over only the last drawing is shown.
function last(text) {
  if (text.endsWith("\r")) text = text.slice(0, -1);
  const at = text.lastIndexOf("\r");
  return at < 0 ? text : text.slice(at + 1);
}

class Log {
  constructor(root) {
    this.root = root;
    this.box = root.querySelector(".lines");
    this.above = document.createElement("div");
    this.window = document.createElement("div");
    this.below = document.createElement("div");
    this.blocks = [];
    this.total = 0;
    this.sections = [];
    this.chosen = null;
    this.follow = false;
    this.live = false;
    this.drawing = null;
    this.query = "";
    this.hits = [];
    this.hit = -1;
    this.gone = new AbortController();
    this.open().catch((error) => this.note(`The log cannot be read: ${error.message}. Reload the page to try again.`));
  }

  // Everything that came from here ends.
  close() {
    this.gone.abort();
    this.stream?.close();
  }

  async json(url) {
    const answer = await fetch(url, { signal: this.gone.signal });
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    return answer.json();
  }

  note(text) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = text;
    this.box.replaceChildren(note);
  }

  async open() {
    const { index, log, liveLog: live, failed, commands: wanted } = this.root.dataset;
    this.url = log;
    this.failed = failed === "true";
    this.commands = JSON.parse(wanted);
    const known = await this.json(index);
    this.take(known);
    this.live = live === "true" && !known.ended;
    this.follow = this.live;
    const commands = this.sections.filter((section) => section.command);
    for (const section of commands) section.open = commands.length === 1;
    const end = commands.at(-1);
    if (end && (this.failed || this.live)) end.open = true;
    this.box.replaceChildren(this.above, this.window, this.below);
    if (!this.live && this.total === 0) {
      this.note("This step wrote nothing.");
      return;
    }
    this.listen();
    this.follow ||= this.failed;
    if (!this.fromHash()) this.draw(this.follow ? this.rows() - 1 : 0);
    if (this.follow) this.toEnd();
    if (this.live) this.connect();
    else this.follow = false;
    this.button("follow").hidden = !this.live;
    this.pressed();
  }

  take(known) {
    this.total = known.lines;
    this.bytes = known.bytes;
    this.blocks = known.blocks.map(([offset, line], i, all) => ({
      offset, line, end: all[i + 1]?.[0] ?? known.bytes, next: all[i + 1]?.[1] ?? known.lines, lines: null,
    }));
    this.sections = [{ start: 0, open: true, command: false }];
    for (const start of known.commands) this.section(start);
    this.next = known.next;
    this.times = known.times;
    this.finished = known.finished;
    this.ahead = known.now - Date.now(); // the server's clock of ours
    this.tail = "";
    this.state = {};
  }

  section(start) {
    if (this.sections.length === 1 && start === 0) this.sections = [];
    this.sections.push({ start, open: true, command: true });
  }

  // Rows are the lines that no fold hides.

  end(i) {
    return this.sections[i + 1]?.start ?? this.total;
  }

  rows() {
    return this.sections.reduce((sum, section, i) => sum + this.height(i), 0);
  }

  height(i) {
    const section = this.sections[i];
    const length = this.end(i) - section.start;
    return section.open ? length : Math.min(length, 1);
  }

  lineAt(row) {
    for (let i = 0; i < this.sections.length; i++) {
      const height = this.height(i);
      if (row < height) return this.sections[i].start + row;
      row -= height;
    }
    return this.total;
  }

  rowOf(line) {
    let row = 0;
    for (let i = 0; i < this.sections.length; i++) {
      if (line < this.end(i)) return row + (this.sections[i].open ? line - this.sections[i].start : 0);
      row += this.height(i);
    }
    return Math.max(0, row - 1);
  }

  sectionOf(line) {
    for (let i = this.sections.length - 1; i >= 0; i--) if (this.sections[i].start <= line) return i;
    return 0;
  }

  // When a line was printed, as far as is known: milliseconds since the epoch.
  time(line) {
    let [low, high] = [0, this.times.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.times[middle][0] <= line) low = middle;
      else high = middle - 1;
    }
    const known = this.times[low];
    return known && known[0] <= line ? known[1] : null;
  }

  // How long the command of a section took.
  took(i) {
    const next = this.sections[i + 1];
    const [begin, end] = [this.time(this.sections[i].start), next ? this.time(next.start) : this.finished];
    return begin === null || !end ? "" : length(Math.max(0, end - begin));
  }

  // Lines of the log, as far as they are here

  block(line) {
    let [low, high] = [0, this.blocks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.blocks[middle].line <= line) low = middle;
      else high = middle - 1;
    }
    return this.blocks[low];
  }

  line(number) {
    const block = this.block(number);
    if (!block) return null;
    if (!block.lines) {
      this.load(block);
      return null;
    }
    const at = number - block.line;
    return [block.lines[at] ?? "", block.states?.[at] ?? {}];
  }

  async load(block) {
    if (block.loading) return;
    block.loading = true;
    try {
      const most = Math.min(block.end, block.offset + (1 << 20));
      const range = { Range: `bytes=${block.offset}-${most - 1}` };
      const answer = await fetch(this.url, { headers: range, signal: this.gone.signal });
      if (!answer.ok) throw new Error(answer.status);
      this.fill(block, await answer.text());
      this.forget(block);
      this.draw();
    } catch (error) {
      if (!this.gone.signal.aborted) setTimeout(() => { block.loading = false; this.draw(); }, 1000);
      return;
    }
    block.loading = false;
  }

  fill(block, text) {
    const lines = text.split("\n");
    if (lines.length > block.next - block.line) lines.pop();
    block.lines = lines;
    if (!text.includes("\x1b[")) return;
    let state = {};
    block.states = lines.map((line) => {
      const before = state;
      if (line.includes("\x1b[")) state = parse(line, state)[1];
      return before;
    });
  }

  forget(keep) {
    const held = this.blocks.filter((block) => block.lines && !block.live);
    if (held.length <= KEEP) return;
    held.sort((a, b) => Math.abs(b.line - keep.line) - Math.abs(a.line - keep.line));
    for (const block of held.slice(0, held.length - KEEP)) block.lines = block.states = null;
  }

  // Drawing

  get estimate() {
    return Math.min(this.rowHeight ??= parseFloat(getComputedStyle(this.box).lineHeight) || 20, TALLEST / Math.max(1, this.rows()));
  }

  // The row on top, and how much of it is scrolled out.
  anchor() {
    const top = this.box.scrollTop;
    for (const node of this.window.children) {
      if (node.offsetTop + node.offsetHeight > top) {
        if (node.offsetTop > top + this.box.clientHeight) break;
        if (node.offsetTop > top && node === this.window.firstChild && this.first > 0) break;
        return [Number(node.dataset.row), top - node.offsetTop];
      }
    }
    return [Math.floor(top / this.estimate), 0];
  }

  // Draws around a row, by default around what is seen now, which stays where it is.
  draw(row) {
    const rows = this.rows();
    const [at, out] = row === undefined ? this.anchor() : [row, 0];
    const seen = Math.ceil(this.box.clientHeight / (this.rowHeight ?? 20)) + 1;
    this.first = Math.max(0, Math.min(at, rows - seen) - MARGIN);
    this.last = Math.min(rows, at + seen + MARGIN);
    const nodes = [];
    for (let i = this.first; i < this.last; i++) nodes.push(this.node(i, this.lineAt(i)));
    this.window.replaceChildren(...nodes);
    this.above.style.height = `${this.first * this.estimate}px`;
    this.below.style.height = `${(rows - this.last) * this.estimate}px`;
    const node = this.window.children[at - this.first];
    if (node) {
      const top = node.offsetTop + out;
      if (Math.abs(this.box.scrollTop - top) >= 1) this.box.scrollTop = top;
    }
  }

  node(row, number) {
    const node = document.createElement("div");
    node.className = "l";
    node.dataset.row = row;
    const link = document.createElement("a");
    link.className = "n";
    link.href = `#L${number + 1}`;
    link.dataset.line = number;
    link.textContent = number + 1;
    link.tabIndex = -1;
    const text = document.createElement("span");
    text.className = "t";
    node.append(link);
    if (this.box.classList.contains("times")) {
      const time = document.createElement("time");
      const at = this.time(number);
      if (at !== null) {
        const date = new Date(at);
        time.dateTime = time.title = date.toISOString();
        time.textContent = `${date.toLocaleTimeString("en-GB")}.${String(date.getMilliseconds()).padStart(3, "0")}`;
      }
      node.append(time);
    }
    const i = this.sectionOf(number);
    const section = this.sections[i];
    if (section.command && section.start === number) {
      node.classList.add("command");
      const fold = document.createElement("button");
      fold.className = "fold";
      fold.dataset.fold = i;
      fold.textContent = section.open ? "▾" : "▸";
      fold.setAttribute("aria-expanded", section.open);
      fold.setAttribute("aria-label", `Output of the command in line ${number + 1}`);
      node.append(fold);
    }
    if (this.chosen && number >= this.chosen[0] && number <= this.chosen[1]) node.classList.add("chosen");
    const known = this.line(number);
    if (known) {
      const [line, state] = known;
      const whole = last(line);
      for (const [piece, style] of parse(whole.slice(0, WIDEST), state)[0]) this.write(text, piece, style);
      if (whole.length > WIDEST) text.append(span(` … ${whole.length - WIDEST} more characters in the raw log`, { d: true }));
    }
    if (section.command && !section.open && section.start === number) {
      const hidden = this.end(i) - number - 1;
      const note = document.createElement("span");
      note.className = "hidden-lines";
      note.textContent = hidden === 1 ? "1 line" : hidden ? `${hidden.toLocaleString("en")} lines` : "";
      text.append(note);
    }
    node.append(text);
    if (section.command && section.start === number) {
      const took = document.createElement("span");
      took.className = "took";
      took.textContent = this.took(i);
      node.append(took);
    }
    return node;
  }

  write(into, text, state) {
    const plain = Object.keys(state).length === 0;
    const add = (text) => into.append(plain ? text : span(text, state));
    if (!this.query) return add(text);
    const [lower, wanted] = [text.toLowerCase(), this.query.toLowerCase()];
    let from = 0;
    for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
      if (at > from) add(text.slice(from, at));
      const mark = document.createElement("mark");
      mark.append(plain ? text.slice(at, at + wanted.length) : span(text.slice(at, at + wanted.length), state));
      into.append(mark);
      from = at + wanted.length;
    }
    if (from < text.length) add(text.slice(from));
  }

  toEnd() {
    this.draw(Math.max(0, this.rows() - 1));
    this.box.scrollTop = this.box.scrollHeight;
  }

  show(line) {
    const section = this.sections[this.sectionOf(line)];
    section.open = true;
    this.follow = false;
    this.pressed();
    this.draw(this.rowOf(line));
    const node = this.window.querySelector(`[data-row="${this.rowOf(line)}"]`);
    if (node) this.box.scrollTop = node.offsetTop - this.box.clientHeight / 3;
    this.draw();
  }

  // Live

  connect() {
    const url = new URL(this.url, location.href);
    url.searchParams.set("offset", this.bytes);
    this.stream = new EventSource(url);
    this.stream.onmessage = (event) => {
      this.append(JSON.parse(event.data).text);
    };
    this.stream.addEventListener("end", () => this.ended());
    this.stream.onerror = () => {
      if (this.stream.readyState === EventSource.CLOSED && this.live && !this.gone.signal.aborted) {
        setTimeout(() => this.reopen(), 2000);
      }
    };
  }

  // A stream that the server refused is taken up anew, from what the index says then.
  async reopen() {
    const opened = this.sections.map((section) => section.open);
    try {
      const known = await this.json(this.root.dataset.index);
      this.take(known);
      opened.forEach((open, i) => { if (this.sections[i]) this.sections[i].open = open; });
      this.draw();
      if (known.ended) this.ended();
      else this.connect();
    } catch {
      if (!this.gone.signal.aborted) setTimeout(() => this.reopen(), 2000);
    }
  }

  append(text) {
    let block = this.blocks.at(-1);
    // The line that had not ended comes again, with what follows.
    if (this.tail) {
      block.lines.pop();
      block.states.pop();
      this.total -= 1;
    }
    if (!block?.live || block.lines.length > 5000) {
      block = { offset: Infinity, line: this.total, lines: [], states: [], live: true };
      this.blocks.push(block);
    }
    this.times.push([this.total, Date.now() + this.ahead]);
    const lines = (this.tail + text).split("\n");
    this.tail = lines.at(-1);
    if (this.tail === "") lines.pop();
    lines.forEach((line, i) => {
      block.lines.push(line);
      block.states.push(this.state);
      // Only a line that has ended changes how the next one looks, or is a command.
      if (i < lines.length - 1 || this.tail === "") {
        if (line.includes("\x1b[")) this.state = parse(line, this.state)[1];
        if (this.isCommand(line)) {
          // Who follows sees what is at work; who reads keeps what is read.
          if (this.follow && this.sections.at(-1).command) this.sections.at(-1).open = false;
          this.section(this.total);
        }
      }
      this.total += 1;
    });
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      if (this.follow) this.toEnd();
      else this.draw();
    });
  }

  isCommand(line) {
    if (!line.startsWith("$ ")) return false;
    const at = this.commands.indexOf(line.slice(2), this.next);
    if (at < 0) return false;
    this.next = at + 1;
    return true;
  }

  ended() {
    this.stream?.close();
    this.live = false;
    this.follow = false;
    this.finished = Date.now() + this.ahead;
    this.draw();
    this.button("follow").hidden = true;
    if (this.total === 0) this.note("This step wrote nothing.");
    this.root.dataset.liveLog = "false";
  }

  // Controls

  button(name) {
    return this.root.querySelector(`[data-do="${name}"]`);
  }

  pressed() {
    this.button("follow").setAttribute("aria-pressed", this.follow);
    for (const name of ["wrap", "times"]) this.button(name).setAttribute("aria-pressed", this.box.classList.contains(name));
  }

  listen() {
    const on = (target, event, does) => target.addEventListener(event, does, { signal: this.gone.signal });
    on(this.box, "scroll", () => {
      const { scrollTop, scrollHeight, clientHeight } = this.box;
      const atEnd = scrollTop + clientHeight > scrollHeight - 30;
      if (this.live && !this.drawing && atEnd !== this.follow) {
        this.follow = atEnd;
        this.pressed();
      }
      const [row] = this.anchor();
      const seen = Math.ceil(clientHeight / (this.rowHeight ?? 20));
      const short = row - this.first < MARGIN / 3 && this.first > 0;
      const long = this.last - row - seen < MARGIN / 3 && this.last < this.rows();
      if (short || long) this.draw();
    });
    on(this.box, "click", (event) => {
      const fold = event.target.closest(".fold, .command .t");
      const link = event.target.closest(".n");
      if (fold && !String(getSelection())) {
        const row = fold.closest(".l");
        const i = Number(row.querySelector(".fold").dataset.fold);
        this.sections[i].open = !this.sections[i].open;
        this.draw();
        this.box.querySelector(`[data-fold="${i}"]`)?.focus();
      } else if (link) {
        event.preventDefault();
        const line = Number(link.dataset.line);
        const from = event.shiftKey && this.chosen ? this.chosen[0] : line;
        this.choose(Math.min(from, line), Math.max(from, line));
        history.replaceState(null, "", from === line ? `#L${line + 1}` : `#L${this.chosen[0] + 1}-L${this.chosen[1] + 1}`);
      }
    });
    on(window, "hashchange", () => this.fromHash());
    on(window, "resize", () => this.draw());
    on(this.button("follow"), "click", () => {
      this.follow = !this.follow;
      this.pressed();
      if (this.follow) this.toEnd();
    });
    for (const name of ["wrap", "times"]) {
      on(this.button(name), "click", () => {
        remember(name, this.box.classList.toggle(name));
        this.pressed();
        this.draw();
      });
      this.box.classList.toggle(name, remembered(name));
    }
    const input = this.root.querySelector("[data-search]");
    let typing = 0;
    on(input, "input", () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.search(input.value), 200);
    });
    on(input, "keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      if (input.value !== this.query) this.search(input.value);
      else this.go(event.shiftKey ? -1 : 1);
    });
    on(this.button("next"), "click", () => this.go(1));
    on(this.button("previous"), "click", () => this.go(-1));
  }

  choose(first, second) {
    this.chosen = [first, second];
    this.draw();
  }

  fromHash() {
    const match = /^#L(\d+)(?:-L(\d+))?$/.exec(location.hash);
    if (!match || !this.total) return false;
    const line = Math.min(Number(match[1]), this.total) - 1;
    this.chosen = [line, Math.max(line, Number(match[2] ?? 0) - 1)];
    this.show(line);
    return true;
  }

  async search(query) {
    this.query = query;
    this.hits = [];
    this.hit = -1;
    const say = this.root.querySelector(".find output");
    if (!query) {
      say.textContent = "";
      return this.draw();
    }
    say.textContent = "…";
    const url = new URL(this.root.dataset.find, location.href);
    url.searchParams.set("q", query);
    let found;
    try {
      found = await this.json(url);
    } catch (error) {
      if (!this.gone.signal.aborted && this.query === query) say.textContent = "failed";
      return;
    }
    if (this.query !== query) return;
    this.hits = found.lines.filter((line) => line < this.total);
    this.count = found.total;
    // The first hit at or below what is seen.
    const seen = this.lineAt(this.anchor()[0]);
    const at = this.hits.findIndex((line) => line >= seen);
    this.hit = (at < 0 ? 0 : at) - 1;
    if (!this.hits.length) {
      say.textContent = "none";
      return this.draw();
    }
    this.go(1);
  }

  go(by) {
    if (!this.hits.length) return;
    this.hit = (this.hit + by + this.hits.length) % this.hits.length;
    const line = this.hits[this.hit];
    this.root.querySelector(".find output").textContent = `${this.hit + 1}/${this.count.toLocaleString("en")}`;
    this.chosen = [line, line];
    this.show(line);
  }
}

let log = null;

function start() {
  const root = document.getElementById("log");
  log?.close();
  log = root?.dataset.index ? new Log(root) : null;
}
start();

// The page was read again: another step or attempt may be the one to show.
document.addEventListener("page", ({ detail: next }) => {
  const [old, fresh] = [document.getElementById("log"), next.getElementById("log")];
  if (!old || !fresh) return;
  if (old.dataset.shows === fresh.dataset.shows) {
    const [title, now] = [old.querySelector("h2"), fresh.querySelector("h2")];
    if (title && now && title.innerHTML !== now.innerHTML) title.replaceWith(document.adoptNode(now));
    return;
  }
  old.replaceWith(document.adoptNode(fresh));
  start();
});
