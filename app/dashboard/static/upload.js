// Sends a form with a file, and tells how far it is.

/** POST `body`; returns the answer's status and JSON. `progress` is told the part that is sent, in [0, 1]. */
export function upload(path, body, headers, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && progress(event.loaded / event.total));
    request.addEventListener("load", () => resolve({ status: request.status, told: parsed(request.responseText) }));
    request.addEventListener("error", () => reject(new Error("The connection was lost. Press Submit again: it will still be one job.")));
    request.send(body);
  });
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {}; // a proxy may answer with a page
  }
}
