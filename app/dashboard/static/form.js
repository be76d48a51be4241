// What the form of the page Submit says, and what is wrong with it that the service need not be asked about.

const NOT_ESTIMATED = new Set(["image", "image_url", "prompt", "not_before", "deadline", "result_ttl_seconds", "webhook_url", "webhook_events", "metadata"]);

/** Whether a field changes what a job takes. */
export function isEstimated(name) {
  return !NOT_ESTIMATED.has(name);
}

/** The fields as the API takes them: numbers as numbers, and nothing for what was left empty. */
export function fields(form) {
  const found = {};
  for (const control of form.elements) {
    const { name, value, type } = control;
    if (!name || value === "" || type === "file" || type === "submit") continue;
    if (["radio", "checkbox"].includes(type) && !control.checked) continue;
    if (name === "webhook_events") (found[name] ??= []).push(value);
    else if (type === "checkbox") found[name] = true;
    else if (type === "datetime-local") found[name] = new Date(value).toISOString();
    else found[name] = type === "number" || name === "result_ttl_seconds" ? Number(value) : value;
  }
  if (!found.webhook_url) delete found.webhook_events;
  return found;
}

/** What to ask for a quote of; null where it is plain that there is none. */
export function parameters(form) {
  if (impossible(form).length) return null;
  return Object.fromEntries(Object.entries(fields(form)).filter(([name]) => isEstimated(name)));
}

/** The body of the submission and its type, which is null for a form's: that has a boundary only the browser knows. */
export function body(form) {
  const { image_url: url, ...rest } = fields(form);
  const [file] = form.elements.image.files;
  if (!file) {
    const metadata = rest.metadata && { metadata: JSON.parse(rest.metadata) };
    return [JSON.stringify({ ...rest, ...metadata, image: url }), "application/json"];
  }
  const data = new FormData();
  for (const [name, value] of Object.entries(rest)) data.append(name, typeof value === "object" ? JSON.stringify(value) : value);
  data.append("image", file);
  return [data, null];
}

/** The numbers and times that cannot be, each with its field and what is wrong. */
export function impossible(form) {
  return [...form.elements].flatMap((control) => {
    const { name, min, max, step, value, validity } = control;
    if (validity?.badInput) return { field: name, message: "must be a number, or a whole date and time" };
    if (control.type !== "number" || validity.valid) return [];
    if (validity.rangeUnderflow || validity.rangeOverflow) return { field: name, message: `must be from ${min} to ${max}, not ${value}` };
    return { field: name, message: step === "1" ? `must be a whole number, not ${value}` : `must be divisible by ${step}, not ${value}` };
  });
}

/** Everything that keeps it from being sent. */
export function mistakes(form) {
  const found = impossible(form);
  const said = fields(form);
  if (!form.elements.image.files.length && !said.image_url) found.push({ field: "image", message: "choose an image, or name the URL of one" });
  if (!said.prompt?.trim()) found.push({ field: "prompt", message: "say what should happen" });
  try {
    if (said.metadata) JSON.parse(said.metadata);
  } catch {
    found.push({ field: "metadata", message: "must be a JSON object of texts" });
  }
  return found;
}
