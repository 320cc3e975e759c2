// What all pages share: they stay live, tell times from now, and answer to keys. Without this script they are complete,
// only still.

const page = document.documentElement;

// Times and durations

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];

function ago(seconds) {
  if (seconds < 45) return "just now";
  for (const [unit, length] of UNITS) {
    if (seconds < length * 0.9) continue;
    const count = Math.max(1, Math.round(seconds / length));
    if (unit === "day" && count > 30) return null;
    return new Intl.RelativeTimeFormat("en", { numeric: "always", style: "short" }).format(-count, unit);
  }
  return "1 min. ago";
}

function lasting(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${two(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${two((seconds % 3600) / 60)} m`;
}

// The server's clock counts: the page's own may be wrong.
let skew = 0;
const served = Date.parse(page.dataset.now ?? "");
if (served) skew = served - Date.now();

function tick(root = document) {
  const now = Date.now() + skew;
  for (const time of root.querySelectorAll("time[data-ago]")) {
    const at = Date.parse(time.dateTime);
    time.textContent = ago((now - at) / 1000) ?? time.textContent;
    time.title = new Date(at).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });
  }
  for (const since of root.querySelectorAll("[data-since]")) {
    since.textContent = lasting(Math.max(0, (now - Date.parse(since.dataset.since)) / 1000));
  }
}
tick();
setInterval(tick, 1000);

// Live: the server says that something changed, the page is read again, and the parts that differ are replaced.

const shown = new Map();
const parts = (root) => root.querySelectorAll("[data-live]");
for (const part of parts(document)) shown.set(part.id, null);

let reading = false;
let again = false;

async function refresh() {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  try {
    const answer = await fetch(location.href.split("#")[0], { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.ok && !answer.redirected) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    // Somebody else's sign-out, or an end of the session: the page itself leads to where one signs in.
    else if (answer.redirected || answer.status === 401) location.reload();
  } catch {
    // The stream comes back before long and asks for another reading.
  } finally {
    reading = false;
    if (again) {
      again = false;
      refresh();
    }
  }
}

function take(next) {
  const stamp = Date.parse(next.documentElement.dataset.now ?? "");
  if (stamp) skew = stamp - Date.now();
  const focused = document.activeElement?.id;
  for (const fresh of parts(next)) {
    const text = fresh.outerHTML;
    const old = document.getElementById(fresh.id);
    if (!old || shown.get(fresh.id) === text || busy(old)) continue;
    shown.set(fresh.id, text);
    const [top, left] = [old.scrollTop, old.scrollLeft];
    const node = document.adoptNode(fresh);
    old.replaceWith(node);
    [node.scrollTop, node.scrollLeft] = [top, left];
    tick(node);
    offerCopies(node);
  }
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  document.title = next.title;
  const icon = next.getElementById("icon")?.getAttribute("href");
  if (icon) document.getElementById("icon").setAttribute("href", icon);
  document.dispatchEvent(new CustomEvent("page", { detail: next }));
}

// A form that somebody fills in, or has chosen something in, stays as it is.
function busy(part) {
  const active = document.activeElement;
  return part.contains(active) && active.matches("input:not([type=checkbox]), textarea, select")
    || part.querySelector("input[type=checkbox]:checked") !== null
    || [...part.querySelectorAll("select")].some((select) => {
      const first = Math.max(0, [...select.options].findIndex((option) => option.defaultSelected));
      return select.selectedIndex !== first;
    });
}

// Where the tabs are wider than the window, the one that one is at is in sight. They move only sideways: an address such as
// `/settings#organizations` leads further down.
const tab = document.querySelector(".tabs [aria-current]");
if (tab) tab.parentElement.scrollLeft = tab.offsetLeft - tab.parentElement.offsetLeft - 40;

const source = document.querySelector("main")?.dataset.stream;
let stream = null;
let lostAt = 0;
const lost = document.getElementById("lost");

function connect() {
  if (!source || stream || document.hidden) return;
  stream = new EventSource(source);
  stream.addEventListener("changed", () => {
    lostAt = 0;
    lost.hidden = true;
    refresh();
  });
  stream.onerror = () => {
    lostAt ||= Date.now();
    lost.hidden = Date.now() - lostAt < 3000;
    // An answer that is an error ends an EventSource for good; a broken connection does not.
    if (stream.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(connect, 2000);
    }
  };
}

function disconnect() {
  stream?.close();
  stream = null;
}

// A browser has few connections to one server: tabs that nobody sees give theirs back, and look now and then.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else if (source) {
    connect();
  }
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", connect);
setInterval(() => {
  if (document.hidden && source) refresh();
}, 20000);
connect();

// Forms: a second click on the same button is none, and what cannot be undone is asked for.

document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm;
  if (question && !confirm(question)) {
    event.preventDefault();
    return;
  }
  if (event.target.method === "post") {
    const button = event.submitter;
    if (button) setTimeout(() => { button.disabled = true; });
  }
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) {
    const boxes = event.target.closest("form, table").querySelectorAll("input[type=checkbox][name]");
    for (const box of boxes) box.checked = event.target.checked;
  }
  if (event.target.matches("form.filters select")) event.target.form.requestSubmit();
});

// What is to be pasted elsewhere is copied by a button; where the browser does not let us, it is marked.

function offerCopies(root = document) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}
offerCopies();
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  } catch {
    getSelection().selectAllChildren(text);
  }
});

// Keys

const keys = document.getElementById("keys");
document.getElementById("show-keys")?.addEventListener("click", () => keys.showModal());

function step(by, selector = "[data-item]") {
  const items = [...document.querySelectorAll(selector)];
  if (!items.length) return;
  const at = items.findIndex((item) => item === document.activeElement || item.getAttribute("aria-current") === "step");
  const focused = items.indexOf(document.activeElement);
  const from = focused >= 0 ? focused : at;
  const next = from < 0 ? (by > 0 ? 0 : items.length - 1) : (from + by + items.length) % items.length;
  items[next].focus();
  items[next].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || keys.open) return;
  if (event.target.matches("input:not([type=checkbox]), textarea, select")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  switch (event.key) {
    case "?": keys.showModal(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "f": step(1, "[data-item].failed"); break;
    case "/": {
      const search = document.querySelector("[data-search]");
      if (!search) return;
      search.focus();
      search.select();
      break;
    }
    default: return;
  }
  event.preventDefault();
});
