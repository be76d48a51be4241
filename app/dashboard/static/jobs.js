// The list of jobs: selecting rows, doing something with all of them, and walking the rows by keyboard.

import "./priority.js";
import { call, confirmed } from "./actions.js";
import { refresh } from "./live.js";
import { newKey } from "./once.js";
import { toast } from "./toast.js";

const ENDED = ["succeeded", "failed", "cancelled"];
let key = newKey(); // the same until an answer has come: what was retried already is not once more
const bar = document.getElementById("bulk");

const boxes = () => [...document.querySelectorAll('input[name="job"]')];
const selected = () => boxes().filter((box) => box.checked);
const rowOf = (element) => element.closest("tr[data-status]");
const jobs = (number) => (number === 1 ? "1 job" : `${number} jobs`);

function showSelection() {
  if (!bar) return;
  const [all, chosen] = [boxes(), selected()];
  const states = chosen.map((box) => rowOf(box).dataset.status);
  bar.hidden = chosen.length === 0;
  bar.querySelector("[data-selected]").textContent = `${jobs(chosen.length)} selected`;
  bar.querySelector('[data-bulk="cancel"]').disabled = states.every((state) => ENDED.includes(state));
  bar.querySelector('[data-bulk="retry"]').disabled = !states.some((state) => ["failed", "cancelled"].includes(state));
  const head = document.getElementById("all");
  if (!head) return;
  head.checked = all.length > 0 && chosen.length === all.length;
  head.indeterminate = chosen.length > 0 && chosen.length < all.length;
}

function select(chosen, checked) {
  for (const box of chosen) box.checked = checked;
  showSelection();
}

/** What has come of a call for many jobs, in words; `before` are the jobs' states when they were asked about. */
function summary(what, outcomes, before) {
  const counts = new Map();
  const refusals = new Set();
  for (const { id, job, problem } of outcomes) {
    const words = problem ? "refused" : what === "retry" ? "submitted again" : cancelled(job, before.get(id));
    counts.set(words, (counts.get(words) ?? 0) + 1);
    if (problem) refusals.add(problem.detail);
  }
  const told = [...counts].map(([words, number]) => `${number} ${words}`).join(", ");
  return refusals.size ? `${told}: ${[...refusals].slice(0, 3).join("; ")}` : told;
}

function cancelled(job, before) {
  if (ENDED.includes(before)) return "had ended";
  if (job.status === "cancelled") return "cancelled";
  return ENDED.includes(job.status) ? "had ended" : "to stop at the next step";
}

async function act(button) {
  const what = button.dataset.bulk;
  const chosen = selected();
  const before = new Map(chosen.map((box) => [box.value, rowOf(box).dataset.status]));
  const question = what === "cancel" ? `Cancel ${jobs(chosen.length)}?` : `Submit ${jobs(chosen.length)} again?`;
  if (!(await confirmed(question))) return;
  button.setAttribute("aria-busy", "true");
  try {
    const { data } = await call("POST", `/v1/jobs/${what}`, { ids: [...before.keys()] }, key);
    key = newKey();
    toast(summary(what, data, before), data.some(({ problem }) => problem) ? "bad" : "good");
    select(chosen, false);
    await refresh();
  } catch (error) {
    toast(error.message, "bad");
  } finally {
    button.removeAttribute("aria-busy");
  }
}

/** From a link or a box in a row: up and down go to the next row, space selects it, enter opens its job. */
function walk(event) {
  const row = rowOf(event.target);
  if (!row || !event.target.matches("a.opens, input[name=job]") || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = { ArrowDown: "nextElementSibling", j: "nextElementSibling", ArrowUp: "previousElementSibling", k: "previousElementSibling" }[event.key];
  if (step) row[step]?.querySelector(event.target.matches("a") ? "a.opens" : "input[name=job]")?.focus();
  else if (event.key === " " && event.target.matches("a")) row.querySelector("input[name=job]")?.click();
  else if (event.key === "Enter" && event.target.matches("input")) row.querySelector("a.opens").click();
  else return;
  event.preventDefault();
}

/** The form asks in UTC, its reader tells times in their own zone; and what is empty is not asked for. */
function startFilter(form) {
  for (const control of form.querySelectorAll("[data-utc]")) {
    const asked = form.elements.namedItem(control.dataset.utc);
    if (asked.value) control.value = local(new Date(asked.value));
    control.addEventListener("input", () => {
      asked.value = control.value ? new Date(control.value).toISOString() : "";
    });
  }
  form.addEventListener("formdata", ({ formData }) => {
    for (const [name, value] of [...formData]) if (!value.trim()) formData.delete(name);
  });
  form.addEventListener("change", (event) => {
    if (event.target.matches("select")) form.requestSubmit();
  });
}

function local(time) {
  const shifted = new Date(time.getTime() - time.getTimezoneOffset() * 60000);
  return Number.isNaN(shifted.getTime()) ? "" : shifted.toISOString().slice(0, 16);
}

document.addEventListener("change", (event) => {
  if (event.target.id === "all") select(boxes(), event.target.checked);
  else if (event.target.name === "job") showSelection();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-bulk]");
  if (!button || button.getAttribute("aria-busy")) return;
  if (button.dataset.bulk === "clear") select(boxes(), false);
  else act(button);
});
document.addEventListener("keydown", walk);
document.addEventListener("shown", showSelection);
startFilter(document.getElementById("filter"));
showSelection(); // a browser that comes back to a page has kept its boxes
