// Tells of the moment of a chart that is pointed at. The numbers are read from its curves, whose points are in percent
// of `data-since` to `data-until` and of `data-top`.

import { clock, size } from "./formats.js";

const NEAR = 2; // percent of the time: no point is told of that is farther away

function pointed(event) {
  const svg = event.target.closest?.(".readable .chart");
  if (!svg) return;
  const box = svg.getBoundingClientRect();
  const x = (100 * (event.clientX - box.left)) / box.width;
  const figure = svg.closest(".readable");
  const { since, until } = figure.dataset;
  const at = new Date(1000 * (Number(since) + ((Number(until) - Number(since)) * x) / 100));
  const told = [...svg.querySelectorAll("path")].flatMap((path) => valueAt(path, x, figure.dataset));
  const cursor = svg.querySelector(".cursor");
  cursor.setAttribute("x1", `${x}%`);
  cursor.setAttribute("x2", `${x}%`);
  show(figure, `${clock(at)}: ${told.join(", ") || "not measured"}`);
}

/** What a curve says nearest to `x`, as a list of one; empty where there is nothing near. */
function valueAt(path, x, { top, unit }) {
  const points = [...(path.getAttribute("d") ?? "").matchAll(/([\d.]+) ([\d.]+)/g)].map((found) => found.slice(1).map(Number));
  let best = null;
  for (const [px, py] of points) {
    const [away, before] = [Math.abs(px - x), best && Math.abs(best[0] - x)];
    // The edges of an area come down to its foot: the higher one of two points at one time is the curve's.
    if (away <= NEAR && (!best || away < before || (away === before && py < best[1]))) best = [px, py];
  }
  if (!best) return [];
  const value = Number(top) * (1 - best[1] / 100);
  return [`${unit === "bytes" ? size(value) : `${value.toFixed(0)} ${unit}`} ${path.dataset.name}`];
}

function show(figure, words) {
  const readout = figure.querySelector(".readout");
  readout.textContent = words;
  readout.hidden = false;
  figure.querySelector(".cursor").setAttribute("visibility", "visible");
}

function left(event) {
  const figure = event.target.closest?.(".readable");
  if (!figure || figure.contains(event.relatedTarget)) return;
  figure.querySelector(".readout").hidden = true;
  figure.querySelector(".cursor").setAttribute("visibility", "hidden");
}

document.addEventListener("pointermove", pointed);
document.addEventListener("pointerout", left);
