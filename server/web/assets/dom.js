// Elements, made one by one. Text is always text: nothing here, or anywhere in the console, reads markup.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  archive: "M4 7h16v12H4zM3 4h18v3H3zM10 11h4",
  branch: "M7 4v10M7 14a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM17 4a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM17 10c0 4-4 4-7 6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  columns: "M4 5h7v14H4zM13 5h7v14h-7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  down: "M12 5v14M6 13l6 6 6-6",
  download: "M12 4v11M7 11l5 5 5-5M4 20h16",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  left: "M14 6l-6 6 6 6",
  menu: "M4 7h16M4 12h16M4 17h16",
  more: "M5.5 12h.01M12 12h.01M18.5 12h.01",
  person: "M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM4.5 20c.6-3.6 3.6-5.5 7.5-5.5s6.9 1.9 7.5 5.5",
  plus: "M12 5v14M5 12h14",
  right: "M10 6l6 6-6 6",
  search: "M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14zM16 16l4.5 4.5",
  send: "M12 19V5M6 11l6-6 6 6",
  share: "M12 15V4M8 8l4-4 4 4M5 13v7h14v-7",
  stop: "M7 7h10v10H7z",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  tool: "M14 6a4 4 0 0 0 5 5l-9 9a2.5 2.5 0 0 1-4-4l9-9a4 4 0 0 1-1-1zM17 4l-3 3 3 3 3-3",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  turn: "M19 12a7 7 0 1 1-2-5M19 4v4h-4",
};

/** `properties`: `class`, `on` (handlers by event), `text`; what is a boolean becomes a property, the rest attributes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "on") for (const [kind, handler] of Object.entries(value)) element.addEventListener(kind, handler);
    else if (name === "text") element.textContent = value;
    else if (typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A button that shows an icon alone; `label` is what it is called. */
export function iconButton(name, label, onClick, properties = {}) {
  const button = h("button", { type: "button", class: "bare", "aria-label": label, title: label, ...properties }, icon(name));
  button.addEventListener("click", onClick);
  return button;
}

export function button(text, onClick, properties = {}, name = null) {
  const made = h("button", { type: "button", ...properties }, name && icon(name), text);
  if (onClick) made.addEventListener("click", onClick);
  return made;
}

export const part = (id) => document.getElementById(id);

/** What a page keeps for the browser, or for this tab of it; one that refuses only forgets. */
function keeper(store) {
  return {
    get(name) {
      try {
        return JSON.parse(store().getItem(`loquent.${name}`));
      } catch {
        return null;
      }
    },
    set(name, value) {
      try {
        if (value === null) store().removeItem(`loquent.${name}`);
        else store().setItem(`loquent.${name}`, JSON.stringify(value));
      } catch {
        // Nothing but convenience depends on it.
      }
    },
  };
}

export const kept = keeper(() => localStorage);
export const keptHere = keeper(() => sessionStorage);

export function clearHere() {
  try {
    for (const name of Object.keys(sessionStorage)) if (name.startsWith("loquent.")) sessionStorage.removeItem(name);
  } catch {
    // It kept nothing.
  }
}

let fading = 0;

/** A short word at the edge of the screen, also spoken. */
export function tell(text, isProblem = false) {
  const place = part("notice");
  clearTimeout(fading);
  place.textContent = text;
  place.classList.toggle("problem", isProblem);
  place.classList.add("shown");
  fading = setTimeout(() => place.classList.remove("shown"), isProblem ? 8000 : 3500);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    tell("Copied");
  } catch {
    tell("The browser did not let us copy", true);
  }
}
