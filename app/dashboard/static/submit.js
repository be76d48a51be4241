// The form of the page Submit.

import { duration, money } from "./formats.js";
import { newKey } from "./once.js";
import * as picture from "./picture.js";
import * as quote from "./quote.js";
import { upload } from "./upload.js";

const NOT_ESTIMATED = new Set(["image", "image_url", "prompt", "not_before", "deadline", "result_ttl_seconds", "webhook_url", "webhook_events", "metadata"]);
let form;
let key; // the Idempotency-Key of the form as it is filled in now

/** What the form says: numbers as numbers, and nothing for what was left empty. */
function fields() {
  const found = {};
  for (const control of form.elements) {
    const { name, value, type } = control;
    if (!name || value === "" || type === "file" || type === "submit") continue;
    if (["radio", "checkbox"].includes(type) && !control.checked) continue;
    if (name === "webhook_events") (found[name] ??= []).push(value);
    else if (type === "checkbox") found[name] = true;
    else if (type === "datetime-local") found[name] = new Date(value).toISOString();
    else found[name] = type === "number" || name === "result_ttl_seconds" ? Number(value) : value;
  }
  if (!found.webhook_url) delete found.webhook_events;
  return found;
}

/** What to ask for a quote of; null where it is plain that there is none. */
function parameters() {
  if (impossible().length) return null;
  return Object.fromEntries(Object.entries(fields()).filter(([name]) => !NOT_ESTIMATED.has(name)));
}

/** Show what is wrong with a field, or that nothing is. */
function tell(name, words) {
  const box = document.getElementById(`${name}-fault`);
  if (!box) return false;
  box.textContent = words;
  for (const control of form.querySelectorAll(`[name="${CSS.escape(name)}"]`)) {
    if (words) control.setAttribute("aria-invalid", "true");
    else control.removeAttribute("aria-invalid");
  }
  return true;
}

function clear(names) {
  for (const name of names) tell(name, "");
}

/** The numbers and times that cannot be, which the service need not be asked about. */
function impossible() {
  return [...form.elements].flatMap((control) => {
    const { name, min, max, step, value, validity } = control;
    if (validity?.badInput) return { field: name, message: "must be a number, or a whole date and time" };
    if (control.type !== "number" || validity.valid) return [];
    if (!validity.stepMismatch) return { field: name, message: `must be from ${min} to ${max}, not ${value}` };
    return { field: name, message: step === "1" ? `must be a whole number, not ${value}` : `must be divisible by ${step}, not ${value}` };
  });
}

function showEstimated(errors) {
  clear([...form.elements].map(({ name }) => name).filter((name) => name && !NOT_ESTIMATED.has(name)));
  for (const { field, message } of [...errors, ...impossible()]) tell(field, sentence(message));
}

function showRefused({ errors, detail }, byUrl) {
  let first;
  for (const { field, message } of errors ?? []) {
    const name = field === "image" && byUrl ? "image_url" : field.split(".")[0];
    if (tell(name, sentence(message))) first ??= form.querySelector(`[name="${CSS.escape(name)}"]`);
  }
  if (first) {
    first.closest("details")?.setAttribute("open", "");
    first.focus();
  } else general(detail ?? "The service did not answer as it should; try again.");
}

function general(words) {
  document.getElementById("general-fault").textContent = words ? sentence(words) : "";
}

function sentence(words) {
  return words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

function body() {
  const said = fields();
  const [file] = form.elements.image.files;
  const { image_url: url, ...rest } = said;
  if (!file) return [JSON.stringify({ ...rest, ...(rest.metadata && { metadata: JSON.parse(rest.metadata) }), image: url }), "application/json"];
  const data = new FormData();
  for (const [name, value] of Object.entries(rest)) data.append(name, typeof value === "object" ? JSON.stringify(value) : value);
  data.append("image", file);
  return [data, null];
}

/** What is wrong that the service need not be asked about. */
function mistakes() {
  const found = impossible();
  const said = fields();
  if (!form.elements.image.files.length && !said.image_url) found.push({ field: "image", message: "choose an image, or name the URL of one" });
  if (!said.prompt?.trim()) found.push({ field: "prompt", message: "say what should happen" });
  try {
    if (said.metadata) JSON.parse(said.metadata);
  } catch {
    found.push({ field: "metadata", message: "must be a JSON object of texts" });
  }
  return found;
}

async function send(event) {
  event.preventDefault();
  const button = document.getElementById("send");
  if (button.getAttribute("aria-busy")) return;
  general("");
  clear([...form.elements].map(({ name }) => name).filter(Boolean));
  const errors = mistakes();
  if (errors.length) return showRefused({ errors }, false);
  const bar = document.getElementById("uploaded");
  button.setAttribute("aria-busy", "true");
  try {
    const [data, type] = body();
    bar.hidden = type !== null;
    const headers = { Accept: "application/json", "Idempotency-Key": key, ...(type && { "Content-Type": type }) };
    const { status, told } = await upload("/v1/jobs", data, headers, (part) => (bar.value = part));
    if (status === 202) return location.assign(`/jobs/${told.id}`);
    showRefused(told, type !== null);
  } catch (error) {
    general(error.message);
  }
  bar.hidden = true;
  button.removeAttribute("aria-busy");
}

function showModel() {
  const model = JSON.parse(form.elements.model.selectedOptions[0].dataset.model);
  const chosen = form.elements.preset.value;
  const usual = { ...model.defaults, ...model.presets.find(({ name }) => name === chosen)?.defaults, seed: "random", priority: 1 };
  for (const [name, limit] of Object.entries(model.limits)) {
    const control = form.elements[name];
    Object.assign(control, { min: limit.minimum, max: limit.maximum, step: limit.multiple_of ?? "any", placeholder: usual[name] });
    control.title = `From ${limit.minimum} to ${limit.maximum}${limit.multiple_of > 1 ? `, in steps of ${limit.multiple_of}` : ""}`;
  }
  for (const { name, estimate } of model.presets) {
    const price = estimate?.cost === null || !estimate ? "" : `, ${money(estimate.cost)}`;
    form.querySelector(`[data-takes="${name}"]`).textContent = estimate ? `${duration(estimate.seconds)}${price}` : "";
  }
  const held = document.getElementById("held");
  held.hidden = !model.held;
  held.querySelector("span").textContent = model.held ?? "";
  document.getElementById("noise").hidden = !model.random_weights;
}

function changed(event) {
  key = newKey();
  const name = event?.target.name;
  if (name) tell(name, "");
  if (name === "model" || name === "preset") showModel();
  if (name && !NOT_ESTIMATED.has(name)) quote.soon(parameters, showEstimated);
}

function start() {
  if (form || !document.getElementById("submit")) return;
  form = document.getElementById("submit");
  key = newKey();
  showModel();
  picture.start(form, { changed, tell: (words) => tell("image", words) });
  form.addEventListener("input", changed);
  form.addEventListener("submit", send);
  form.elements.prompt.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  // Who comes back to the page, as the browser has kept it, wants another job.
  window.addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    key = newKey();
    document.getElementById("send").removeAttribute("aria-busy");
    document.getElementById("uploaded").hidden = true;
  });
  quote.soon(parameters, showEstimated, 0);
}

document.addEventListener("shown", start); // the first model may come while the page is open
start();
