// The form of the page Submit.

import { body, impossible, isEstimated, mistakes, parameters } from "./form.js";
import { duration, money } from "./formats.js";
import { newKey } from "./once.js";
import * as picture from "./picture.js";
import * as quote from "./quote.js";
import { upload } from "./upload.js";

let form;
let key; // the Idempotency-Key of the form as it is filled in now

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

function showEstimated(errors) {
  clear([...form.elements].map(({ name }) => name).filter((name) => name && isEstimated(name)));
  for (const { field, message } of [...errors, ...impossible(form)]) tell(field, sentence(message));
}

/** Show what was refused: at its field where it has one, else above the button. */
function showRefused({ errors = [], detail }, byUrl) {
  const rest = [];
  for (const { field, message } of errors) {
    const name = field === "image" && byUrl ? "image_url" : field.split(".")[0];
    if (!tell(name, sentence(message))) rest.push(sentence(message));
  }
  if (!errors.length) rest.push(detail ?? "The service did not answer as it should; try again.");
  general(rest.join(" "));
  const first = form.querySelector("[aria-invalid]");
  first?.closest("details")?.setAttribute("open", "");
  first?.focus();
}

function general(words) {
  document.getElementById("general-fault").textContent = words ? sentence(words) : "";
}

function sentence(words) {
  return words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

async function send(event) {
  event.preventDefault();
  const button = document.getElementById("send");
  if (button.getAttribute("aria-busy")) return;
  general("");
  clear([...form.elements].map(({ name }) => name).filter(Boolean));
  const errors = mistakes(form);
  if (errors.length) return showRefused({ errors }, false);
  const bar = document.getElementById("uploaded");
  button.setAttribute("aria-busy", "true");
  try {
    const [data, type] = body(form);
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
  if (name && isEstimated(name)) quote.soon(() => parameters(form), showEstimated);
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
  quote.soon(() => parameters(form), showEstimated, 0);
}

document.addEventListener("shown", start); // the first model may come while the page is open
start();
