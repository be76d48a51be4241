// Drains and resumes GPUs. A button names them, with spaces between, in `data-drain` or `data-resume`.

import { call, clearProblem, fieldsOf, showProblem } from "./actions.js";
import { duration } from "./formats.js";
import { refresh } from "./live.js";
import { toast } from "./toast.js";

const dialog = document.getElementById("drain");
const form = dialog?.querySelector("form");
let gpus = []; // that the dialog is about

function named(ids) {
  return ids.length === 1 ? ids[0] : `${ids.length} GPUs`;
}

function open(ids) {
  gpus = ids;
  dialog.querySelector("h2").textContent = `Drain ${named(ids)}`;
  changed();
  dialog.showModal();
}

/** What the form asks for, as the API takes it: seconds from now on. */
function order() {
  const { deadline_seconds, on_deadline, resume_after_seconds, ...rest } = fieldsOf(form);
  const asked = { ...rest, gpus };
  if (deadline_seconds !== undefined) {
    asked.deadline_seconds = deadline_seconds * Number(form.querySelector("[data-unit]").value);
    asked.on_deadline = on_deadline;
  }
  if (resume_after_seconds) asked.resume_after_seconds = Math.round((new Date(resume_after_seconds) - Date.now()) / 1000);
  return asked;
}

function changed() {
  clearProblem(form);
  form.querySelector("[data-preview]").replaceChildren();
  form.querySelector("#drain-late").hidden = form.elements.deadline_seconds.value === "";
  const resume = form.elements.resume_after_seconds;
  resume.setCustomValidity(resume.value && new Date(resume.value) <= Date.now() ? "This time is over." : "");
}

/** Do something with the form's button held; what is refused is shown in the form. */
async function tried(button, act) {
  if (button.getAttribute("aria-busy")) return;
  button.setAttribute("aria-busy", "true");
  try {
    await act();
  } catch (error) {
    if (dialog?.open) showProblem(form, error);
    else toast(error.message, "bad");
  } finally {
    button.removeAttribute("aria-busy");
  }
}

async function forecast() {
  const asked = order(); // without a reason it is still a forecast
  const answer = await call("POST", "/v1/admin/drain", { ...asked, reason: asked.reason ?? "preview", dry_run: true });
  form.querySelector("[data-preview]").replaceChildren(...answer.data.flatMap(forecastOf));
}

function forecastOf(gpu) {
  const { jobs, empty_in_seconds } = gpu.preview;
  const words = jobs.length ? `the last job is gone in ${duration(empty_in_seconds)}` : "nothing runs there";
  const parts = [element("p", `${gpu.id}: ${words}`)];
  if (jobs.length) {
    const list = element("ul");
    list.append(...jobs.map((job) => element("li", `${job.job_id.slice(-6)} ${ending(job)}`)));
    parts.push(list);
  }
  return parts;
}

function ending({ ending, in_seconds, lost_seconds }) {
  const lost = lost_seconds >= 1 ? `, and ${duration(lost_seconds)} of work is lost` : "";
  if (ending === "finishes") return `finishes in ${duration(in_seconds)}`;
  if (ending === "killed") return `is killed in ${duration(in_seconds)} and goes back to the queue${lost}`;
  return `goes back to the queue in ${duration(in_seconds)}${lost}`;
}

function element(name, words = "") {
  const made = document.createElement(name);
  made.textContent = words;
  return made;
}

async function drain() {
  const answer = await call("POST", "/v1/admin/drain", order());
  dialog.close();
  toast(answer.data.every((gpu) => gpu.state === "drained") ? `${named(gpus)} drained` : `Draining ${named(gpus)}`);
  await refresh();
}

async function resume(ids) {
  await call("POST", "/v1/admin/resume", { gpus: ids });
  toast(`${named(ids)} active again`);
  await refresh();
}

/** Listen for the whole page. */
export function start() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-drain], [data-resume]");
    if (!button) return;
    if (button.dataset.drain) open(button.dataset.drain.split(" "));
    else if (button.dataset.resume) tried(button, () => resume(button.dataset.resume.split(" ")));
  });
  if (!dialog) return;
  form.addEventListener("input", changed);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    tried(form.querySelector("[type=submit]"), drain);
  });
  form.querySelector("[data-forecast]").addEventListener("click", (event) => tried(event.target, forecast));
}
