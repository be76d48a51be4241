// What a page does, it does by the API: buttons and forms say which call in `data-api`.
//
//   <button data-api="POST /v1/jobs/ID/cancel" data-confirm="Cancel it?" data-done="Cancelled">
//   <form data-api="POST /v1/admin/gpus/ID/drain" data-done="Draining"> fields become JSON, empty ones are left out
//   <button … data-once> pressed again after a lost answer, it is done once all the same
//   <button … data-goes="/jobs/{id}"> goes there when it is done; `{id}` is that of the answer
//   <button data-opens="ID"> opens the dialog of that id

import { refresh } from "./live.js";
import { newKey } from "./once.js";
import { toast } from "./toast.js";

const keys = new WeakMap(); // by button

/** Send a call as the page's reader; returns the answer's JSON. With a `key`, it is done once. Throws `Refused`. */
export async function call(method, path, body, key) {
  const json = body !== undefined && !(body instanceof FormData);
  const headers = { Accept: "application/json", ...(json && { "Content-Type": "application/json" }), ...(key && { "Idempotency-Key": key }) };
  const answer = await fetch(path, { method, headers, body: json ? JSON.stringify(body) : body });
  if (answer.status === 204) return null;
  const told = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(told, answer.status);
  return told;
}

/** What the API refused: `errors` are by field where it names some. */
export class Refused extends Error {
  constructor(problem, status) {
    super(problem.detail ?? `the server answered ${status}`);
    this.errors = problem.errors ?? [];
  }
}

/** The fields of a form as the API takes them: numbers as numbers, and nothing for what was left empty. */
export function fieldsOf(form) {
  const fields = {};
  for (const control of form.elements) {
    if (!control.name || control.disabled || (["radio", "checkbox"].includes(control.type) && !control.checked)) continue;
    if (control.value === "") continue;
    const value = control.type === "number" ? Number(control.value) : control.type === "checkbox" ? true : control.value;
    fields[control.name] = value;
  }
  return fields;
}

/** Show what was refused: at its field where it has one in the form, else below the form. */
export function showProblem(form, error) {
  clearProblem(form);
  const rest = [];
  for (const one of error.errors?.length ? error.errors : [{ message: error.message }]) {
    const control = one.field && form.elements.namedItem(one.field);
    if (!(control instanceof HTMLElement)) {
      rest.push(one.message);
      continue;
    }
    control.setCustomValidity(one.message);
    control.setAttribute("aria-invalid", "true");
    control.reportValidity();
    control.addEventListener("input", () => clearProblem(form), { once: true });
  }
  const words = form.querySelector("[data-problem]");
  if (words) words.textContent = rest.join(" ");
  else if (rest.length) toast(rest.join(" "), "bad");
}

/** Forget what `showProblem` has shown. */
export function clearProblem(form) {
  for (const control of form.elements) {
    control.setCustomValidity?.("");
    control.removeAttribute("aria-invalid");
  }
  const words = form.querySelector("[data-problem]");
  if (words) words.textContent = "";
}

/** Ask the reader a yes-or-no question; resolves to whether it was yes. */
export function confirmed(question) {
  const dialog = document.getElementById("confirm");
  dialog.querySelector("[data-question]").textContent = question;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** The key of what a button with `data-once` does: the same until it is known to be done. */
function keyOf(element) {
  if (!("once" in element.dataset)) return undefined;
  if (!keys.has(element)) keys.set(element, newKey());
  return keys.get(element);
}

async function act(element, body) {
  const [method, path] = element.dataset.api.split(" ");
  if (element.dataset.confirm && !(await confirmed(element.dataset.confirm))) return;
  const buttons = element.matches("button") ? [element] : [...element.querySelectorAll("button[type=submit]")];
  for (const button of buttons) button.setAttribute("aria-busy", "true");
  try {
    const told = await call(method, path, body, keyOf(element));
    keys.delete(element);
    element.closest("dialog")?.close();
    toast(element.dataset.done ?? "Done");
    if (element.dataset.goes) location.assign(element.dataset.goes.replace("{id}", told?.id));
    else await refresh();
  } catch (error) {
    if (element.matches("form")) showProblem(element, error);
    else toast(error.message, "bad");
  } finally {
    for (const button of buttons) button.removeAttribute("aria-busy");
  }
}

/** Listen for the whole page; what is drawn later works too. */
export function start() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-api], [data-opens], [data-closes]");
    if (!button || button.getAttribute("aria-busy")) return;
    if (button.dataset.api) act(button);
    else if (button.dataset.opens) document.getElementById(button.dataset.opens).showModal();
    else button.closest("dialog").close();
  });
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-api]");
    if (!form) return;
    event.preventDefault();
    if (!form.querySelector("[aria-busy]")) act(form, fieldsOf(form));
  });
}
