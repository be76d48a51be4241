// What every page has.

import * as actions from "./actions.js";
import * as keyboard from "./keyboard.js";
import * as live from "./live.js";

const NEXT = { auto: "light", light: "dark", dark: "auto" };

function showTheme(button) {
  const theme = localStorage.getItem("theme") ?? "auto";
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.title = `Theme: ${theme}`;
  button.setAttribute("aria-label", `Theme: ${theme}. Change it`);
}

function startTheme() {
  const button = document.getElementById("theme");
  showTheme(button);
  button.addEventListener("click", () => {
    const theme = NEXT[localStorage.getItem("theme") ?? "auto"];
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
    showTheme(button);
  });
}

// On a narrow screen the bar scrolls: the view that is open must be seen in it. (scrollIntoView would move the place
// from which Tab goes on, too.)
const nav = document.getElementById("nav");
const here = nav.querySelector("[aria-current]");
if (here) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
startTheme();
actions.start();
keyboard.start();
live.start();
