// Tables that a reader sorts by a column: <th><button class="sort">. A cell's `data-value` counts, else its text.
// A live page comes in the order of the server: it is put in the reader's again.

const chosen = new Map(); // by the table's id: the column, and whether it goes up

document.addEventListener("click", (event) => {
  const button = event.target.closest("th button.sort");
  if (!button) return;
  const heading = button.closest("th");
  const before = heading.getAttribute("aria-sort");
  const up = before ? before !== "ascending" : !heading.classList.contains("number");
  chosen.set(heading.closest("table").id, { column: heading.cellIndex, up });
  sort();
});
document.addEventListener("shown", sort);

function sort() {
  for (const [id, { column, up }] of chosen) {
    const table = document.getElementById(id);
    if (!table) continue;
    const headings = table.tHead.rows[0].cells;
    for (const other of headings) other.removeAttribute("aria-sort");
    headings[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const compare = comparison(headings[column].classList.contains("number"), up ? 1 : -1);
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row.cells[column]), row]);
    table.tBodies[0].append(...rows.sort(([one], [other]) => compare(one, other)).map(([, row]) => row));
  }
}

function valueOf(cell) {
  return cell.dataset.value ?? cell.textContent.trim();
}

/** What is not known comes last, whichever way. */
function comparison(numbers, sign) {
  return (one, other) => {
    if (one === "" || other === "") return (one === "") - (other === "");
    return sign * (numbers ? Number(one) - Number(other) : one.localeCompare(other, undefined, { numeric: true }));
  };
}
