"use strict";
// Sorts a table by the column whose head is clicked; a second click turns it round.
function keyOf(cell) {
  const text = (cell.tagName === "TH" || !cell.firstChild ? cell : cell.firstChild).textContent.trim();
  const number = parseFloat(text.replace(/\u2212/g, "-").replace(/[$,+%]/g, ""));
  return Number.isNaN(number) ? text.toLowerCase() : number;
}
function compare(a, b) {
  if (typeof a === typeof b) return a < b ? -1 : a > b ? 1 : 0;
  return typeof a === "number" ? -1 : 1;
}
document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("thead th").forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("thead th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = table.tBodies[0];
      const rows = Array.from(body.rows);
      rows.sort((a, b) => (down ? -1 : 1) * compare(keyOf(a.cells[column]), keyOf(b.cells[column])));
      rows.forEach((row) => body.append(row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
});
// Shows and hides the curve of a router, and brings it out while its row is pointed at.
document.querySelectorAll("input[data-curve]").forEach((box) => {
  const curve = document.getElementById(box.dataset.curve);
  if (!curve) { box.remove(); return; }
  const show = () => curve.classList.toggle("off", !box.checked);
  const row = box.closest("tr");
  box.addEventListener("change", show);
  row.addEventListener("mouseenter", () => curve.classList.add("near"));
  row.addEventListener("mouseleave", () => curve.classList.remove("near"));
  show();
});
