// GPUs: which of many are shown and chosen.

import * as drain from "./drain.js";

const filters = { q: document.getElementById("find"), host: document.getElementById("host"), state: document.getElementById("state") };
const all = document.getElementById("all");

function rows() {
  return [...document.querySelectorAll("#fleet .gpu")];
}

function box(row) {
  return row.querySelector("input[name=gpu]");
}

function isWanted(row) {
  const words = filters.q.value.trim().toLowerCase().split(/\s+/);
  const text = row.textContent.toLowerCase();
  return (
    words.every((word) => text.includes(word)) &&
    (!filters.host.value || row.dataset.host === filters.host.value) &&
    (!filters.state.value || row.dataset.state === filters.state.value)
  );
}

/** Hide what is not looked for; what is hidden is not chosen. */
function show() {
  const every = rows();
  for (const row of every) {
    row.hidden = !isWanted(row);
    if (row.hidden) box(row).checked = false;
  }
  const shown = every.filter((row) => !row.hidden);
  const chosen = shown.filter((row) => box(row).checked).map((row) => box(row).value);
  document.getElementById("none").hidden = shown.length > 0;
  all.checked = chosen.length > 0 && chosen.length === shown.length;
  all.indeterminate = chosen.length > 0 && chosen.length < shown.length;
  tell(chosen.length ? `${chosen.length} chosen` : shown.length < every.length ? `${shown.length} of ${every.length} shown` : "");
  for (const button of document.querySelectorAll("#bulk button")) {
    button.disabled = chosen.length === 0;
    button.dataset["drain" in button.dataset ? "drain" : "resume"] = chosen.join(" ");
  }
  for (const link of document.querySelectorAll("[data-as]")) link.search = asked({ as: link.dataset.as });
}

function tell(words) {
  const count = document.getElementById("count");
  if (count.textContent !== words) count.textContent = words; // or it would be read out again and again
}

/** The query that names what is looked for, and how it is shown. */
function asked(more) {
  const query = new URLSearchParams(location.search);
  for (const [name, control] of Object.entries(filters)) {
    if (control.value) query.set(name, control.value);
    else query.delete(name);
  }
  for (const [name, value] of Object.entries(more)) query.set(name, value);
  return query.toString();
}

function looked() {
  history.replaceState(null, "", `${location.pathname}?${asked({})}`);
  show();
}

function start() {
  const query = new URLSearchParams(location.search);
  for (const [name, control] of Object.entries(filters)) {
    control.value = query.get(name) ?? "";
    control.addEventListener("input", looked);
  }
  all.addEventListener("change", () => {
    for (const row of rows()) if (!row.hidden) box(row).checked = all.checked;
    show();
  });
  document.addEventListener("change", (event) => event.target.matches("input[name=gpu]") && show());
  document.addEventListener("shown", show);
  show();
}

drain.start();
if (all) start(); // a page without GPUs, and that of one, has nothing to choose from
