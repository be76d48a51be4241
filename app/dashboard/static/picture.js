// The image of a submission: chosen, dropped, pasted, or that of another job; seen at once.

import { size } from "./formats.js";

/** Watch over the form's image; `changed` is called when there is another one. `tell` shows what is wrong with it. */
export function start(form, { changed, tell }) {
  const input = form.elements.image;
  const url = form.elements.image_url;
  const preview = document.getElementById("preview");
  const zone = form.querySelector(".zone");
  const told = document.getElementById("image-told");
  const remove = document.getElementById("no-image");

  function take(file) {
    const files = new DataTransfer();
    if (file) files.items.add(file);
    input.files = files.files;
    show();
  }

  function show() {
    const [file] = input.files;
    URL.revokeObjectURL(preview.src);
    preview.hidden = true;
    preview.removeAttribute("src");
    zone.classList.toggle("has-image", Boolean(file));
    remove.hidden = !file;
    told.textContent = file ? `${file.name}, ${size(file.size)}` : "";
    tell(file ? wrong(file) : "");
    if (file) {
      url.value = "";
      preview.src = URL.createObjectURL(file);
    }
    changed();
  }

  function wrong(file) {
    const most = Number(input.dataset.maxBytes);
    if (file.type && !input.accept.split(",").includes(file.type)) return `This is no ${formats()} file.`;
    return file.size > most ? `The image must be at most ${size(most)}, not ${size(file.size)}.` : "";
  }

  function formats() {
    return input.accept.replaceAll("image/", "").toUpperCase().split(",").join(", ");
  }

  preview.addEventListener("load", () => {
    preview.hidden = false;
    told.textContent += `, ${preview.naturalWidth} × ${preview.naturalHeight} pixels`;
  });
  preview.addEventListener("error", () => tell("This cannot be read as an image."));
  input.addEventListener("change", show);
  remove.addEventListener("click", () => {
    take(null);
    input.focus();
  });
  url.addEventListener("input", () => {
    if (url.value && input.files.length) {
      const words = url.value;
      take(null);
      url.value = words;
    }
  });
  listen(zone, take);
  if (form.dataset.image) fetchImage(form.dataset.image).then(take, (error) => tell(error.message));
}

function listen(zone, take) {
  const carriesFile = (data) => [...(data?.items ?? [])].some((item) => item.kind === "file");
  for (const name of ["dragover", "drop", "dragleave"]) {
    document.addEventListener(name, (event) => {
      if (!carriesFile(event.dataTransfer)) return;
      event.preventDefault();
      zone.classList.toggle("over", name === "dragover");
      if (name === "drop") take(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("paste", (event) => {
    if (!carriesFile(event.clipboardData)) return;
    event.preventDefault();
    take(event.clipboardData.files[0]);
  });
}

async function fetchImage(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error("The other job's image is gone: choose one.");
  const image = await answer.blob();
  return new File([image], `as-before.${image.type.split("/")[1]}`, { type: image.type });
}
