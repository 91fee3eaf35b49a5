// Markdown as elements. What comes from a model or a person is never read as markup, and a link leads only to http, https or
// mailto. All of it is read in time that grows with the text's length: a stream is drawn over and over.

import { code } from "./code.js";
import { h } from "./dom.js";

const DEEPEST = 8;
const SCHEMES = new Set(["http:", "https:", "mailto:"]);
const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const MARKER = /^( {0,3})([-*+]|\d{1,9}[.)])(?:( {1,4})|$)/;
const QUOTE = /^ {0,3}> ?/;
const CELL = /^:?-+:?$/;
const ADDRESS = /https?:\/\/[^\s<>"`]+/y;
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]+|[^\s<>@]+@[^\s<>@]+\.[^\s<>@]+)>/y;
const ESCAPED = /[!-/:-@[-`{-~]/;
const WORD = /[\p{L}\p{N}]/u;

/** Shows a text that grows: pieces that have not changed stay as they are. */
export class Prose {
  #place;
  #pieces = [];

  constructor(place) {
    this.#place = place;
  }

  show(text) {
    const pieces = segments(text);
    let same = 0;
    while (same < pieces.length && pieces[same] === this.#pieces[same]?.source) same += 1;
    for (const { nodes } of this.#pieces.splice(same)) for (const node of nodes) node.remove();
    for (const source of pieces.slice(same)) {
      const nodes = render(source);
      this.#place.append(...nodes);
      this.#pieces.push({ source, nodes });
    }
  }
}

export const render = (text) => blocks(text.split("\n"), 0);

/** Parts of a text between empty lines that mean the same alone: a fence and a list stay whole. */
export function segments(text) {
  const found = [];
  let lines = [];
  let fence = null;
  let isList = false;
  const close = () => {
    while (lines.length && !lines.at(-1).trim()) lines.pop();
    if (lines.length) found.push(lines.join("\n"));
    lines = [];
    isList = false;
  };
  for (const line of text.replaceAll("\r\n", "\n").split("\n")) {
    if (fence) {
      lines.push(line);
      if (closes(line, fence)) fence = null;
      continue;
    }
    const isAfterGap = lines.length > 0 && !lines.at(-1).trim();
    if (isAfterGap && line.trim() && !(isList && (/^\s{2}/.test(line) || MARKER.test(line)))) close();
    if (!lines.length) isList = MARKER.test(line);
    fence = FENCE.exec(line)?.[1] ?? null;
    if (lines.length || line.trim()) lines.push(line);
  }
  close();
  return found;
}

const closes = (line, fence) => {
  const text = line.trim();
  return text.length >= fence.length && text === fence[0].repeat(text.length);
};

// ---- Blocks

function blocks(lines, depth) {
  const nodes = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const reader = depth < DEEPEST ? READERS.find(({ test }) => test(lines, at)) : null;
    const [node, next] = (reader?.read ?? paragraph)(lines, at, depth);
    nodes.push(node);
    at = next;
  }
  return nodes;
}

const isRule = (line) => /^ {0,3}[-*_]/.test(line) && /^([-*_])\1{2,}$/.test(line.replace(/[ \t]/g, ""));

const READERS = [
  { test: (lines, at) => FENCE.test(lines[at]), read: fenced },
  { test: (lines, at) => HEADING.test(lines[at]), read: heading },
  { test: (lines, at) => isRule(lines[at]), read: (_, at) => [h("hr"), at + 1] },
  { test: (lines, at) => QUOTE.test(lines[at]), read: quote },
  { test: (lines, at) => MARKER.test(lines[at]), read: list },
  { test: isTable, read: table },
];

function fenced(lines, at) {
  const [, fence, language] = FENCE.exec(lines[at]);
  let end = at + 1;
  while (end < lines.length && !closes(lines[end], fence)) end += 1;
  return [code(lines.slice(at + 1, end).join("\n"), language), end + 1];
}

function heading(lines, at) {
  const [mark, signs] = HEADING.exec(lines[at]);
  // Below the titles of the page and of the message.
  const level = Math.min(signs.length + 2, 6);
  const text = lines[at].slice(mark.length).trim().replace(/(^| )#+$/, "");
  return [h(`h${level}`, { class: `h${signs.length}` }, ...inline(text)), at + 1];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inner = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [h("blockquote", {}, ...blocks(inner, depth + 1)), end];
}

function list(lines, at, depth) {
  const isOrdered = /\d/.test(MARKER.exec(lines[at])[2]);
  const number = isOrdered ? parseInt(MARKER.exec(lines[at])[2], 10) : 1;
  const made = h(isOrdered ? "ol" : "ul", number === 1 ? {} : { start: String(number) });
  let next = at;
  while (next < lines.length) {
    const marker = MARKER.exec(lines[next]);
    if (!marker || /\d/.test(marker[2]) !== isOrdered || isRule(lines[next])) break;
    const width = marker[0].length || 2;
    let end = next + 1;
    while (end < lines.length && belongs(lines, end, marker[1].length)) end += 1;
    const inner = [lines[next].slice(width), ...lines.slice(next + 1, end).map((line) => outdented(line, width))];
    made.append(item(inner, depth));
    next = end;
    const further = lines.findIndex((line, n) => n >= end && line.trim());
    if (further > end && MARKER.test(lines[further])) next = further;
  }
  return [made, next];
}

function belongs(lines, at, indent) {
  if (!lines[at].trim()) return at + 1 < lines.length && /^\s{2}/.test(lines[at + 1]);
  if (/^(\t| {2})/.test(lines[at]) && lines[at].search(/\S/) > indent + 1) return true;
  // A paragraph goes on without an indent.
  return Boolean(lines[at - 1].trim()) && !startsBlock(lines, at);
}

const outdented = (line, width) => line.slice(Math.min(width, Math.max(line.search(/\S/), 0)));
const startsBlock = (lines, at) => READERS.some(({ test }) => test(lines, at));

function item(lines, depth) {
  const task = /^\[([ xX])\] /.exec(lines[0]);
  if (task) lines = [lines[0].slice(4), ...lines.slice(1)];
  const nodes = blocks(lines, depth + 1);
  // A single paragraph stands without its space.
  if (nodes[0]?.tagName === "P" && !lines.some((line) => !line.trim())) nodes.splice(0, 1, ...nodes[0].childNodes);
  const box = task && h("input", { type: "checkbox", disabled: true, checked: task[1] !== " " });
  return h("li", task ? { class: "task" } : {}, box, ...nodes);
}

function isTable(lines, at) {
  if (!lines[at].includes("|") || !lines[at + 1]?.includes("-")) return false;
  const marks = cells(lines[at + 1]);
  return marks.length === cells(lines[at]).length && marks.every((mark) => CELL.test(mark));
}

function cells(line) {
  const text = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  return text.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll("\\|", "|"));
}

function table(lines, at) {
  const sides = cells(lines[at + 1]).map((mark) => (mark.endsWith(":") ? (mark.startsWith(":") ? "middle" : "end") : "start"));
  const row = (line, tag) => h("tr", {}, ...sides.map((side, n) => h(tag, { class: side }, ...inline(cells(line)[n] ?? ""))));
  let end = at + 2;
  while (end < lines.length && lines[end].includes("|")) end += 1;
  const body = lines.slice(at + 2, end).map((line) => row(line, "td"));
  const made = h("table", {}, h("thead", {}, row(lines[at], "th")), h("tbody", {}, ...body));
  return [h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Table" }, made), end];
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && lines[end].trim() && (depth >= DEEPEST || !interrupts(lines, end))) end += 1;
  return [h("p", {}, ...inline(lines.slice(at, end).join("\n").trim())), end];
}

function interrupts(lines, at) {
  const marker = MARKER.exec(lines[at]);
  // A year or a sum at the beginning of a line is no list.
  if (marker) return Boolean(marker[3]) && (!/\d/.test(marker[2]) || /^1[.)]$/.test(marker[2]));
  return startsBlock(lines, at);
}

// ---- Within a line

/** Reads from left to right; what has no end once, has none later either, so that no text is searched twice in vain. */
function inline(text, depth = 0) {
  const nodes = [];
  const vain = new Set();
  let plain = "";
  let at = 0;
  const put = (node, next) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(node);
    at = next;
  };
  while (at < text.length) {
    const found = depth <= DEEPEST ? (SIGNS[text[at]]?.(text, at, depth, vain) ?? null) : null;
    if (found?.text !== undefined) {
      plain += found.text;
      at = found.next;
    } else if (found) put(found.node, found.next);
    else plain += text[at++];
  }
  if (plain) nodes.push(plain);
  return nodes;
}

const SIGNS = {
  "\\": (text, at) => {
    if (text[at + 1] === "\n") return { node: h("br"), next: at + 2 };
    return ESCAPED.test(text[at + 1] ?? "") ? { text: text[at + 1], next: at + 2 } : null;
  },
  " ": (text, at) => (text.startsWith("  \n", at) ? { node: h("br"), next: at + 3 } : null),
  "`": codeSpan,
  "*": emphasis,
  _: emphasis,
  "~": emphasis,
  "[": link,
  "!": (text, at, depth, vain) => (text[at + 1] === "[" ? link(text, at + 1, depth, vain) : null),
  "<": autolink,
  h: address,
};

function codeSpan(text, at, _, vain) {
  const sign = /`+/y;
  sign.lastIndex = at;
  const [run] = sign.exec(text);
  const end = vain.has(run) ? -1 : runEnd(text, run, at + run.length);
  if (end < 0) {
    vain.add(run);
    return { text: run, next: at + run.length };
  }
  const inner = text.slice(at + run.length, end).replaceAll("\n", " ");
  const isPadded = inner.startsWith(" ") && inner.endsWith(" ") && inner.trim();
  return { node: h("code", { text: isPadded ? inner.slice(1, -1) : inner }), next: end + run.length };
}

/** Where a run of just this length stands. */
function runEnd(text, run, from) {
  for (let at = text.indexOf(run, from); at >= 0; at = text.indexOf(run, at)) {
    let end = at;
    while (text[end] === "`") end += 1;
    if (end - at === run.length) return at;
    at = end;
  }
  return -1;
}

const STYLES = { "***": ["strong", "em"], "**": ["strong"], "*": ["em"], __: ["strong"], _: ["em"], "~~": ["del"] };

function emphasis(text, at, depth, vain) {
  const sign = text[at];
  let length = 1;
  while (text[at + length] === sign) length += 1;
  const mark = sign.repeat(length);
  const isOpen = STYLES[mark] && /\S/.test(text[at + length] ?? " ") && !(sign === "_" && WORD.test(text[at - 1] ?? ""));
  const end = isOpen && !vain.has(mark) ? markEnd(text, mark, at + length + 1) : -1;
  if (end < 0) {
    if (isOpen) vain.add(mark);
    return { text: mark, next: at + length };
  }
  const inner = inline(text.slice(at + length, end), depth + 1);
  const node = STYLES[mark].reduceRight((nodes, tag) => [h(tag, {}, ...nodes)], inner)[0];
  return { node, next: end + length };
}

function markEnd(text, mark, from) {
  for (let at = text.indexOf(mark, from); at >= 0; at = text.indexOf(mark, at)) {
    let end = at;
    while (text[end] === mark[0]) end += 1;
    // The end of a longer run may close what stands within first: of `**a *b***` the last two.
    const isLong = end - at > mark.length && end - at !== 3;
    const isInWord = mark[0] === "_" && WORD.test(text[end] ?? "");
    if (/\S/.test(text[at - 1]) && !isLong && !isInWord && !(mark.length === 1 && end - at === 2)) return end - mark.length;
    at = end;
  }
  return -1;
}

function link(text, at, depth, vain) {
  const close = vain.has("[") ? -1 : bracketEnd(text, at);
  if (close < 0) vain.add("[");
  if (close < 0 || text[close + 1] !== "(") return null;
  const end = parenthesisEnd(text, close + 1);
  if (end < 0) return null;
  const [target] = text.slice(close + 2, end).trim().split(/\s/);
  const label = text.slice(at + 1, close);
  const href = safe(target.replace(/^<|>$/g, ""));
  if (!href) return { node: h("span", {}, ...inline(label, depth + 1)), next: end + 1 };
  return { node: anchor(href, ...inline(label || target, depth + 1)), next: end + 1 };
}

function bracketEnd(text, at) {
  let open = 0;
  for (let end = at; end < text.length; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text[end] === "[") open += 1;
    else if (text[end] === "]" && --open === 0) return end;
  }
  return -1;
}

function parenthesisEnd(text, at) {
  let open = 0;
  for (let end = at; end < Math.min(text.length, at + 1500) && text[end] !== "\n"; end += 1) {
    if (text[end] === "(") open += 1;
    else if (text[end] === ")" && --open === 0) return end;
  }
  return -1;
}

function autolink(text, at) {
  AUTOLINK.lastIndex = at;
  const found = AUTOLINK.exec(text);
  const href = found && (safe(found[1]) ?? safe(`mailto:${found[1]}`));
  return href ? { node: anchor(href, found[1]), next: at + found[0].length } : null;
}

function address(text, at) {
  if (WORD.test(text[at - 1] ?? "")) return null;
  ADDRESS.lastIndex = at;
  let found = ADDRESS.exec(text)?.[0].replace(/[.,;:!?'"*_~\]}]+$/, "");
  if (found?.endsWith(")") && !found.includes("(")) found = found.slice(0, found.indexOf(")"));
  const href = found && safe(found);
  return href ? { node: anchor(href, found), next: at + found.length } : null;
}

const anchor = (href, ...children) => h("a", { href, target: "_blank", rel: "noopener noreferrer nofollow" }, ...children);

/** The address in full, or null where it is not one that may be followed. */
export function safe(address) {
  try {
    const url = new URL(address);
    return SCHEMES.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}
