// What a job would take, asked of the service whenever the form has changed, and now and then: others submit too.

import { call, Refused } from "./actions.js";
import { clock, duration, money, size } from "./formats.js";

const PAUSE_MS = 250; // after the last key
const AGAIN_MS = 10000;
const panel = () => document.getElementById("quote");
let timer = 0;
let asked = 0;

/** Ask soon; `fields` returns the parameters, null where they cannot be; `told` gets what is wrong with them by field. */
export function soon(fields, told, pause = PAUSE_MS) {
  clearTimeout(timer);
  timer = setTimeout(() => (document.hidden ? soon(fields, told, AGAIN_MS) : ask(fields, told)), pause);
  // Screen readers say what the reader has changed, and not every ten seconds that time goes by.
  document.getElementById("verdict").setAttribute("aria-live", pause === AGAIN_MS ? "off" : "polite");
}

async function ask(fields, told) {
  const mine = (asked += 1);
  const wanted = fields();
  if (!wanted) {
    told([]);
    return refuse();
  }
  panel().setAttribute("aria-busy", "true");
  try {
    const quote = await call("POST", "/v1/estimates", wanted);
    if (mine !== asked) return;
    told([]);
    show(quote);
  } catch (error) {
    if (mine !== asked) return;
    const refused = error instanceof Refused;
    told(refused ? error.errors : []);
    if (refused && error.errors.length) refuse();
    else refuse(refused ? error.message : "The service does not answer; asking again.");
  }
  panel().removeAttribute("aria-busy");
  soon(fields, told, AGAIN_MS);
}

function refuse(words = "This cannot be submitted as it is.") {
  panel().removeAttribute("aria-busy");
  verdict("bad", words);
  hide(true);
}

function show(quote) {
  hide(false);
  if (!quote.fits) refuse(`It would be refused: ${quote.reason}`);
  showGpus(quote.gpus);
  if (!quote.fits) return;
  const { estimate, wait } = quote;
  const start = quote.expected_start;
  const now = quote.position === 1 && wait?.code === "dispatching";
  if (!quote.expected_finish) verdict("warn", `It would wait, and nobody can tell for how long: ${quote.wait_reason}.`);
  else verdict("good", `It would be done in about ${until(quote.expected_finish.p50)}, in 9 of 10 cases within ${until(quote.expected_finish.p90)}.`);
  fill("memory", size(estimate.vram_bytes));
  fill("seconds", duration(estimate.seconds));
  fill("cost", quote.cost === null ? "–" : money(quote.cost), quote.cost === null ? "no price is set" : "");
  fill("position", quote.position === null ? "–" : `${quote.position_exact ? "" : "about "}${quote.position.toLocaleString("en")}`);
  fill("start", ...span(start, now));
  fill("finish", ...span(quote.expected_finish));
  fill("plan", estimate.plan, estimate.plan_reason);
  fill("wait", now ? "nothing" : quote.wait_reason ?? "–", now ? "" : wait && `until ${wait.clears_when}`);
}

function span(expected, now = false) {
  if (!expected) return ["–", "nobody can tell"];
  if (now) return ["at once", ""];
  return [clock(new Date(expected.p50)), `at the latest ${clock(new Date(expected.p90))}, in 9 of 10 cases`];
}

function until(time) {
  return duration(Math.max(1, (new Date(time) - Date.now()) / 1000));
}

function fill(name, words, more = "") {
  const small = document.createElement("small");
  small.textContent = more || "";
  panel().querySelector(`[data-quote="${name}"]`).replaceChildren(words, ...(more ? [small] : []));
}

function verdict(kind, words) {
  const line = document.getElementById("verdict");
  line.className = `verdict banner ${kind}`;
  if (line.textContent !== words) line.textContent = words;
}

function hide(hidden) {
  for (const id of ["numbers", "gpus"]) document.getElementById(id).hidden = hidden;
}

function showGpus(gpus) {
  const box = document.getElementById("gpus");
  box.hidden = false;
  box.querySelector("tbody").replaceChildren(...gpus.map(row));
}

function row(gpu) {
  const line = document.createElement("tr");
  const seconds = gpu.plans.find((plan) => plan.plan === gpu.plan)?.seconds;
  const state = !gpu.online ? " (offline)" : gpu.state === "active" ? "" : ` (${gpu.state})`;
  const texts = gpu.fits ? [gpu.gpu + state, gpu.plan, duration(seconds)] : [gpu.gpu + state, gpu.reason];
  for (const text of texts) line.insertCell().textContent = text;
  if (gpu.fits) line.cells[2].className = "number";
  else line.cells[1].colSpan = 2;
  return line;
}
