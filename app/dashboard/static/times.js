// Times come in UTC; a reader wants their own zone.

const FORMATS = {
  time: { hour: "2-digit", minute: "2-digit", second: "2-digit" },
  minute: { hour: "2-digit", minute: "2-digit" },
  day: { weekday: "short", day: "numeric", month: "short" },
  moment: { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" },
};
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const formatters = Object.fromEntries(
  Object.entries(FORMATS).map(([name, options]) => [name, new Intl.DateTimeFormat(undefined, options)]),
);

/** Write every time below `root` in the reader's zone. */
export function localize(root) {
  for (const element of root.querySelectorAll("time[datetime], text[data-at]")) {
    const at = new Date(element.getAttribute("datetime") ?? element.dataset.at);
    const format = formatters[element.dataset.local];
    if (format) element.textContent = format.format(at);
    if (element.tagName === "TIME") element.title = FULL.format(at);
  }
}
