// A pipeline's text is checked as it is typed: the form is sent as its button would send it, and of the page that comes
// back the verdict is taken.

const PAUSE = 350;
let timer = 0;
let asked = 0;

document.addEventListener("input", (event) => {
  if (!event.target.matches("textarea[data-check]")) return;
  clearTimeout(timer);
  timer = setTimeout(() => check(event.target), PAUSE);
});

async function check(text) {
  const number = ++asked;
  const body = new URLSearchParams(new FormData(text.form));
  const answer = await fetch(text.dataset.check, { method: "POST", body, headers: { Accept: "text/html" } }).catch(() => null);
  // Only what was typed last counts.
  if (!answer?.ok || number !== asked) return;
  const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("diagnostics");
  if (next) document.getElementById("diagnostics").replaceWith(document.adoptNode(next));
}
