// Shortcuts: `g` and a letter goes to a view, `/` to the search, `?` tells of them all.

import { refresh } from "./live.js";

const WITHIN_MS = 1500; // how soon the letter must follow the `g`
let going = 0;

function pressed(event) {
  const typing = event.target.closest?.("input, select, textarea, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.timeStamp < going) {
    going = 0;
    const link = document.querySelector(`#nav a[data-shortcut="${CSS.escape(event.key)}"]`);
    if (link) link.click();
    return;
  }
  if (event.key === "g") going = event.timeStamp + WITHIN_MS;
  else if (event.key === "r") refresh();
  else if (event.key === "?") document.getElementById("shortcuts").showModal();
  else if (event.key === "/") {
    const search = document.querySelector("input[type=search]");
    if (search) {
      event.preventDefault();
      search.focus();
    }
  }
}

/** Listen for the whole page. */
export function start() {
  document.addEventListener("keydown", pressed);
}
