// A reader of GraphQL and JSON text that is just good enough to colour them and to find operations.

const PIECE =
  /(?<comment>#[^\n]*)|(?<string>"""(?:\\"""|[^])*?(?:"""|$)|"(?:\\.|[^"\\\n])*"?)|(?<variable>\$\w+)|(?<number>-?\d[\d.eE+-]*)|(?<name>\w+)|(?<mark>[{}[\]()!:=|&@]|\.\.\.)/g;
const KEYWORDS = new Set(["query", "mutation", "subscription", "fragment", "on", "true", "false", "null"]);

function* pieces(text) {
  for (const match of text.matchAll(PIECE)) {
    const [kind] = Object.entries(match.groups).find(([, value]) => value !== undefined);
    yield { kind, text: match[0], at: match.index };
  }
}

function shade(piece, text) {
  if (piece.kind === "name") return KEYWORDS.has(piece.text) ? "keyword" : "name";
  if (piece.kind === "string" && /^\s*:/.test(text.slice(piece.at + piece.text.length, piece.at + piece.text.length + 8))) return "key";
  return piece.kind;
}

/** The text as a fragment of coloured spans. It is only ever set as text, never read as HTML. */
export function coloured(text) {
  const fragment = document.createDocumentFragment();
  let done = 0;
  for (const piece of pieces(text)) {
    const kind = shade(piece, text);
    if (kind === "mark" || kind === "name") continue;
    const span = document.createElement("span");
    span.className = `t-${kind}`;
    span.textContent = piece.text;
    fragment.append(text.slice(done, piece.at), span);
    done = piece.at + piece.text.length;
  }
  fragment.append(text.slice(done));
  return fragment;
}

/** The operations of a document, in order: `{type, name}`, with an empty name where it has none. */
export function operations(text) {
  const found = [];
  let depth = 0;
  let header = null; // what stands before the next selection set
  let previous = "";
  for (const { kind, text: word } of pieces(text)) {
    if (kind === "comment" || kind === "string") continue;
    const isDirective = previous === "@";
    previous = word;
    if (word === "{" || word === "(" || word === "[") {
      if (word === "{" && depth === 0) {
        const [type, name] = header ?? ["query", ""];
        if (type !== "fragment") found.push({ type, name });
        header = null;
      }
      depth += 1;
    } else if (word === "}" || word === ")" || word === "]") {
      depth = Math.max(0, depth - 1);
    } else if (depth === 0 && kind === "name" && !isDirective) {
      if (header === null) header = [word, ""];
      else if (!header[1]) header[1] = word;
    }
  }
  return found.filter(({ type }) => ["query", "mutation", "subscription"].includes(type));
}

/** A textarea over a coloured copy of its text. Tab indents, Enter keeps the indentation, Escape lets the next Tab out. */
export function prepareEditor(area, onChange) {
  const copy = area.previousElementSibling;
  let mayLeave = false;
  const paint = () => {
    copy.replaceChildren(coloured(area.value), "\n");
    follow();
  };
  const follow = () => {
    copy.scrollTop = area.scrollTop;
    copy.scrollLeft = area.scrollLeft;
  };
  // The old command is the only way to type into a textarea that its undo remembers.
  const type = (text) => document.execCommand("insertText", false, text);
  area.addEventListener("input", () => {
    paint();
    onChange();
  });
  area.addEventListener("scroll", follow);
  area.addEventListener("keydown", (event) => {
    const { key, shiftKey, ctrlKey, metaKey, altKey, isComposing } = event;
    const isPlain = !shiftKey && !ctrlKey && !metaKey && !altKey && !isComposing;
    if (key === "Tab" && isPlain && !mayLeave) {
      event.preventDefault();
      indent(area, type);
    } else if (key === "Enter" && isPlain) {
      event.preventDefault();
      const before = area.value.slice(0, area.selectionStart);
      const [space] = /[ \t]*/.exec(before.slice(before.lastIndexOf("\n") + 1));
      type(`\n${space}${/[{([]\s*$/.test(before) ? "  " : ""}`);
    }
    mayLeave = key === "Escape";
  });
  return {
    get value() {
      return area.value;
    },
    set value(text) {
      area.value = text;
      paint();
    },
  };
}

function indent(area, type) {
  const { selectionStart, selectionEnd, value } = area;
  const chosen = value.slice(selectionStart, selectionEnd);
  if (!chosen.includes("\n")) {
    type("  ");
    return;
  }
  const start = value.lastIndexOf("\n", selectionStart - 1) + 1;
  area.setSelectionRange(start, selectionEnd);
  const text = value.slice(start, selectionEnd).replace(/^(?=.)/gm, "  ");
  type(text);
  area.setSelectionRange(start, start + text.length);
}
