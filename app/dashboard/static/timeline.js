// The timeline: tells of the bar that is pointed at, and goes from bar to bar by the arrow keys.

const gantt = document.getElementById("gantt");
const told = document.getElementById("told");

function tell(event) {
  const title = event.target.closest("a")?.querySelector("title");
  if (title) told.textContent = title.textContent;
}

/** From a bar to the one beside it, or in a row above or below to the one that is nearest in time. */
function neighbour(bar, key) {
  const row = [...bar.closest(".bars").querySelectorAll("a")];
  if (key === "ArrowLeft") return row[row.indexOf(bar) - 1];
  if (key === "ArrowRight") return row[row.indexOf(bar) + 1];
  if (key === "Home") return row[0];
  if (key === "End") return row.at(-1);
  const rows = [...gantt.querySelectorAll(".bars")].filter((one) => one.querySelector("a"));
  const next = rows[rows.indexOf(bar.closest(".bars")) + (key === "ArrowUp" ? -1 : 1)];
  return next && nearest(bar, [...next.querySelectorAll("a")]);
}

function nearest(bar, bars) {
  const middle = (one) => one.getBoundingClientRect().left + one.getBoundingClientRect().width / 2;
  const wanted = middle(bar);
  const distance = (one) => Math.abs(middle(one) - wanted);
  return bars.reduce((best, one) => (distance(one) < distance(best) ? one : best));
}

function pressed(event) {
  const bar = event.target.closest("a");
  if (!bar?.closest(".bars") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (!["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"].includes(event.key)) return;
  event.preventDefault();
  neighbour(bar, event.key)?.focus();
}

if (told) {
  gantt.addEventListener("mouseover", tell);
  gantt.addEventListener("focusin", tell);
  gantt.addEventListener("keydown", pressed);
}
