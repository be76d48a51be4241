// The dialog that changes a queued job's priority: a button says by `data-job` and `data-priority` which.

import { clearProblem } from "./actions.js";

function open(button) {
  const dialog = document.getElementById("priority");
  const form = dialog.querySelector("form");
  form.dataset.api = `PATCH /v1/admin/jobs/${button.dataset.job}`;
  clearProblem(form);
  form.elements.priority.value = button.dataset.priority;
  dialog.showModal();
  form.elements.priority.select();
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-priority]");
  if (button) open(button);
});
