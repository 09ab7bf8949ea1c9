"use strict";
const marks = document.querySelectorAll("[data-s]");
function choose(key) {
  document.body.classList.toggle("chosen", key !== null);
  for (const mark of marks) mark.classList.toggle("on", mark.dataset.s === key);
}
for (const mark of marks) {
  mark.addEventListener("mouseenter", () => choose(mark.dataset.s));
  mark.addEventListener("mouseleave", () => choose(null));
  mark.addEventListener("focus", () => choose(mark.dataset.s));
  mark.addEventListener("blur", () => choose(null));
}
