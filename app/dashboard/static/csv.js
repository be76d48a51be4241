// <button data-csv="ID" data-name="NAME"> saves the table of that id as NAME.csv, with the exact numbers.

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-csv]");
  if (!button) return;
  const table = document.getElementById(button.dataset.csv);
  const rows = [...table.tHead.rows, ...table.tBodies[0].rows];
  const text = rows.map((row) => [...row.cells].map((cell) => field(cell)).join(",")).join("\r\n") + "\r\n";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = `${button.dataset.name}.csv`;
  link.click();
  URL.revokeObjectURL(link.href);
});

function field(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  // A spreadsheet would take a text that begins so for a formula.
  const safe = cell.dataset.value === undefined && /^[=+\-@\t]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
