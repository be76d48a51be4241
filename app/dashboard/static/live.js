// Keeps a page live: asks for it again and again, and changes what has changed.

import { morph } from "./morph.js";
import { localize } from "./times.js";

const HIDDEN_MS = 30000; // how often a page that nobody sees is asked for
const LATE_MS = 60000; // what has not been answered by then will not be: no reader shall take what is old for live
const state = document.getElementById("live");
let tag = null; // of what is shown
let timer = 0;
let asking = null;
let failures = 0;

/** Begin; the page says by `data-refresh` how many seconds it is good for. */
export function start() {
  localize(document);
  if (!period()) return;
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  plan();
}

/** Ask for the page now. Resolves when it is shown, or cannot be had. */
export async function refresh() {
  clearTimeout(timer);
  asking?.abort();
  const mine = (asking = new AbortController());
  const late = setTimeout(() => mine.abort(), LATE_MS);
  try {
    const headers = { Accept: "text/html", ...(tag && { "If-None-Match": tag }) };
    const answer = await fetch(location.href, { headers, cache: "no-store", signal: mine.signal });
    if (answer.redirected && new URL(answer.url).pathname !== location.pathname) location.assign(answer.url); // signed out
    else if (answer.status !== 304) await show(answer, mine.signal);
    failures = 0;
    tell("live", "Live");
  } catch (error) {
    if (asking !== mine) return; // it was asked anew meanwhile
    failures += 1;
    tell("lost", failures > 1 ? `No connection since ${state.dataset.at ?? "the start"}; trying again` : "Reconnecting");
  } finally {
    clearTimeout(late);
  }
  plan();
}

async function show(answer, signal) {
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  const text = await answer.text();
  if (signal.aborted) return;
  const wanted = new DOMParser().parseFromString(text, "text/html");
  localize(wanted);
  tag = answer.headers.get("ETag");
  document.title = wanted.title;
  for (const id of ["main", "nav"]) {
    const [now, then] = [document.getElementById(id), wanted.getElementById(id)];
    if (now && then) morph(now, then);
  }
  document.dispatchEvent(new CustomEvent("shown"));
}

function plan() {
  const seconds = period();
  if (!seconds) return;
  const wait = document.hidden ? HIDDEN_MS : Math.max(seconds, failures ? 1 : 0) * 1000 * Math.min(2 ** failures, 15);
  clearTimeout(timer);
  timer = setTimeout(refresh, wait);
}

function period() {
  return Number(document.getElementById("main").dataset.refresh);
}

function tell(name, words) {
  if (!state) return; // a page that is asked for anew only on demand
  if (name === "live") state.dataset.at = new Date().toLocaleTimeString();
  if (state.dataset.state === name && state.textContent === words) return;
  state.dataset.state = name;
  state.textContent = words;
}
