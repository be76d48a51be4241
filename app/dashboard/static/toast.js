// A short word on what was done, which screen readers say too.

const SHOWN_MS = 6000;

/** Show words for some seconds; `kind` is "good" or "bad". */
export function toast(words, kind = "good") {
  const box = document.createElement("p");
  box.className = `toast ${kind}`;
  box.textContent = words;
  document.getElementById("toasts").append(box);
  setTimeout(() => box.remove(), SHOWN_MS);
}
