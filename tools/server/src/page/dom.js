"use strict";
// Nodes of the document. Text becomes a text node, whatever it contains.

const $ = (id) => document.getElementById(id);

/** An element. Attributes that begin with `on` are listeners; false and null are left out. */
function el(name, attributes, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

/** An element of a drawing. */
function svg(name, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes ?? {})) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// Lines in a square of 24, drawn with a round pen.
const ICONS = {
  attention: "M12 4 2.5 20h19zM12 10v4M12 17v.1",
  auto: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 3v18M12 8l6.5-1.5M12 12h9M12 16l6.5 1.5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  clip: "M20 11.5l-8 8a5 5 0 0 1-7-7l8.5-8.5a3.3 3.3 0 0 1 4.7 4.7l-8.5 8.5a1.7 1.7 0 0 1-2.4-2.4l7.7-7.7",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  edit: "M4 20l1-4L16.5 4.5l3 3L8 19zM14 7l3 3",
  menu: "M4 7h16M4 12h16M4 17h16",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  more: "M5 5l7 7-7 7M12 5l7 7-7 7",
  next: "M9 5l7 7-7 7",
  plus: "M12 5v14M5 12h14",
  previous: "M15 5l-7 7 7 7",
  repeat: "M20 11a8 8 0 1 0-2 6M20 5v6h-6",
  send: "M12 20V5M5.5 11.5L12 5l6.5 6.5",
  sliders: "M4 8h8M18 8h2M15 5v6M4 16h3M13 16h7M10 13v6",
  stop: "M7 7h10v10H7z",
  sun: "M12 8a4 4 0 1 0 0 8a4 4 0 1 0 0-8M12 2v3M12 19v3M2 12h3M19 12h3M5 5l2 2M17 17l2 2M5 19l2-2M17 7l2-2",
  trash: "M4 7h16M9 7V4h6v3M6.5 7l1 13h9l1-13M10 11v5M14 11v5",
};

function icon(name) {
  return svg("svg", { viewBox: "0 0 24 24", class: "drawing", "aria-hidden": "true" }, svg("path", { d: ICONS[name] }));
}

/** A button with a drawing; `label` is what it is called. */
function iconButton(name, label, press, attributes) {
  return el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick: press, ...attributes }, icon(name));
}

/** Makes the children of `parent` those that are wanted, and touches none that is in its place. */
function arrange(parent, wanted) {
  wanted.forEach((node, i) => {
    if (parent.childNodes[i] !== node) parent.insertBefore(node, parent.childNodes[i] ?? null);
  });
  while (parent.childNodes.length > wanted.length) parent.lastChild.remove();
}

const whole = new Intl.NumberFormat("en");
/** A rate in three digits. */
const rate = (n) => (n === 0 ? "0" : n < 10 ? n.toFixed(2) : n < 100 ? n.toFixed(1) : whole.format(Math.round(n)));
const plural = (n, word) => `${whole.format(n)} ${word}${n === 1 ? "" : "s"}`;

/** Says something above the conversation; `action` is offered beside it. Goes by itself after `seconds`, if given. */
function notice(sentence, { action, press, seconds } = {}) {
  const line = el("div", { class: "notice" }, el("span", null, sentence));
  const remove = () => line.remove();
  if (action) line.append(el("button", { type: "button", onclick: () => { remove(); press(); } }, action));
  line.append(iconButton("close", "Close this notice", remove));
  $("notices").append(line);
  if (seconds) setTimeout(remove, seconds * 1000);
  return remove;
}

/** Puts a text on the clipboard. Browsers have that for pages of this machine and of https; elsewhere, the old way. */
async function copyText(text) {
  if (navigator.clipboard) {
    try {
      return await navigator.clipboard.writeText(text);
    } catch {
      // Not permitted: the old way may be.
    }
  }
  const area = el("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function copyButton(text) {
  const button = iconButton("copy", "Copy", async () => {
    await copyText(text());
    button.replaceChildren(icon("check"));
    button.setAttribute("aria-label", "Copied");
    setTimeout(() => {
      button.replaceChildren(icon("copy"));
      button.setAttribute("aria-label", "Copy");
    }, 1500);
  });
  return button;
}

/** Gives the user a file. */
function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
