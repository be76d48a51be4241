// Numbers as people read them; the same words as on the server.

const DAY = 86400;

/** Bytes as B, KiB, MiB or GiB. */
export function size(bytes) {
  for (const [unit, factor] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (bytes >= factor) return `${(bytes / factor).toFixed(1)} ${unit}`;
  }
  return `${bytes.toFixed(0)} B`;
}

/** Seconds as `4.2 s`, `42 s`, `3m 05s`, `2h 07m` or `8d 12h`. */
export function duration(seconds) {
  if (seconds >= 1 && seconds < 59.5) return `${seconds.toFixed(0)} s`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  if (whole < 2 * DAY) return `${Math.floor(whole / 3600)}h ${two((whole % 3600) / 60)}m`;
  return `${Math.floor(whole / DAY)}d ${two((whole % DAY) / 3600)}h`;
}

/** A sum to cents, or to four digits, which a video's may need. */
export function money(amount) {
  if (amount < 0.0001) return amount ? "below 0.0001" : "0";
  const most = Math.max(2, 3 - Math.floor(Math.log10(amount)));
  return amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: most });
}

/** A time as a clock shows it, with its day where that is not today's. */
export function clock(at) {
  const day = at.toDateString() === new Date().toDateString() ? {} : { day: "numeric", month: "short" };
  return at.toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
