// A job's page: copying, and a video that plays on and on.

import "./priority.js";
import { toast } from "./toast.js";

async function copy(text) {
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else copyBySelection(text); // the page came over plain HTTP from another machine
    toast("Copied");
  } catch {
    toast("The browser did not let it be copied", "bad");
  }
}

function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("not copied");
}

/** The video may come while the page is shown; whether it loops is remembered for all of them. */
function showLoop() {
  const [box, video] = [document.getElementById("loop"), document.getElementById("video")];
  if (!box || !video) return;
  box.checked = video.loop = localStorage.getItem("loop") !== "no";
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy], [data-copy-from]");
  if (button) copy(button.dataset.copy ?? document.getElementById(button.dataset.copyFrom).textContent);
});
document.addEventListener("change", (event) => {
  if (event.target.id !== "loop") return;
  localStorage.setItem("loop", event.target.checked ? "yes" : "no");
  showLoop();
});
document.addEventListener("shown", showLoop);
showLoop();
