// Makes one tree like another by changing only what differs, so that focus, scrolling and open dialogs stay.

const FORM_CONTROLS = new Set(["INPUT", "SELECT", "TEXTAREA"]);

/** Make `node` like `wanted`, which is used up. What has `data-keep` is left as the reader has it. */
export function morph(node, wanted) {
  if (node.nodeType === Node.TEXT_NODE) {
    if (node.data !== wanted.data) node.data = wanted.data;
    return;
  }
  if (node.nodeType !== Node.ELEMENT_NODE || node.hasAttribute("data-keep")) return;
  morphAttributes(node, wanted);
  if (!FORM_CONTROLS.has(node.tagName)) morphChildren(node, wanted);
}

function morphAttributes(node, wanted) {
  const kept = (name) => name === "open" || (FORM_CONTROLS.has(node.tagName) && ["value", "checked"].includes(name));
  for (const { name, value } of wanted.attributes) {
    if (!kept(name) && node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    if (!kept(name) && !wanted.hasAttribute(name)) node.removeAttribute(name);
  }
}

function morphChildren(node, wanted) {
  const named = new Map();
  for (const child of node.children) if (nameOf(child)) named.set(nameOf(child), child);
  let at = node.firstChild;
  for (const next of [...wanted.childNodes]) {
    const name = nameOf(next);
    const same = name ? named.get(name) : at && !nameOf(at) && alike(at, next) ? at : null;
    if (!same || !alike(same, next)) {
      node.insertBefore(next, at);
    } else {
      if (same === at) at = at.nextSibling;
      else node.insertBefore(same, at);
      morph(same, next);
    }
  }
  while (at) {
    const after = at.nextSibling;
    at.remove();
    at = after;
  }
}

function nameOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.id || node.dataset.key : undefined;
}

function alike(one, other) {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}
