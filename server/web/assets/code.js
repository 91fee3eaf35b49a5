// A block of code: its language, a button that copies it, and colours where the language is known.

import { button, copy, h } from "./dom.js";

const LONGEST = 30_000;
const C_LIKE = "//|/\\*";
const WORDS = {
  javascript:
    "async await break case catch class const continue default delete do else export extends false finally for from function if import in instanceof let new null of return static super switch this throw true try typeof undefined var void while yield",
  typescript: "interface type enum implements private public readonly as keyof declare",
  python:
    "and as assert async await break class continue def del elif else except False finally for from global if import in is lambda match None nonlocal not or pass raise return self True try while with yield",
  go: "break case chan const continue defer else false for func go if import interface map nil package range return select struct switch true type var",
  rust: "as async await break const continue else enum false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while",
  c: "auto bool break case catch char class const continue default delete do double else enum extern false final float for if import int long namespace new null nullptr private protected public return short signed sizeof static string struct switch template this throw true try typedef unsigned using var virtual void while",
  shell: "case cd do done echo elif else esac exit export fi for function if in local return set then while",
  sql: "alter and as asc between by case create delete desc distinct drop else end exists from group having in index inner insert into is join left like limit not null on or order outer primary select set table then union update values view when where with",
  json: "true false null",
  graphql: "query mutation subscription fragment on type input enum interface union scalar directive true false null",
};
const SAME = {
  js: "javascript", jsx: "javascript", mjs: "javascript", ts: "typescript", tsx: "typescript", py: "python", golang: "go", rs: "rust",
  cpp: "c", "c++": "c", cs: "c", csharp: "c", java: "c", kotlin: "c", swift: "c", php: "c", bash: "shell", sh: "shell", zsh: "shell",
  console: "shell", gql: "graphql", yaml: "json", toml: "json",
}; // prettier-ignore
const COMMENTS = { python: "#", shell: "#", json: "#", graphql: "#", sql: "--" };

export function code(text, language) {
  const name = language.toLowerCase();
  const body = h("code", {}, ...coloured(text, SAME[name] ?? name));
  const head = h("div", { class: "code-head" }, h("span", { text: language || "text" }));
  head.append(button("Copy", () => copy(text), { class: "small", "aria-label": "Copy the code" }, "copy"));
  return h("div", { class: "code" }, head, h("pre", { tabindex: "0" }, body));
}

function coloured(text, language) {
  if (!WORDS[language] || text.length > LONGEST) return [text];
  const words = new Set(`${WORDS[language]} ${language === "typescript" ? WORDS.javascript : ""}`.split(" "));
  const comment = COMMENTS[language] ?? C_LIKE;
  const nodes = [];
  let last = 0;
  for (const found of text.matchAll(pattern(comment))) {
    const kind = kindOf(found, words, language);
    if (!kind) continue;
    nodes.push(text.slice(last, found.index), h("span", { class: kind, text: found[0] }));
    last = found.index + found[0].length;
  }
  return [...nodes, text.slice(last)];
}

/** Comments, texts, numbers and words, in this order. */
function pattern(comment) {
  const comments = comment === C_LIKE ? "//[^\\n]*|/\\*[^]*?(?:\\*/|$)" : `${comment}[^\\n]*`;
  const texts = `"""[^]*?(?:"""|$)|"(?:[^"\\\\\\n]|\\\\.)*"?|'(?:[^'\\\\\\n]|\\\\.)*'?|\`(?:[^\`\\\\]|\\\\[^])*\`?`;
  return new RegExp(`(${comments})|(${texts})|(\\b\\d[\\w.]*)|([A-Za-z_$][\\w$]*)`, "g");
}

function kindOf([, comment, text, number, word], words, language) {
  if (comment) return "t-comment";
  if (text) return "t-text";
  if (number) return "t-number";
  return words.has(language === "sql" ? word.toLowerCase() : word) ? "t-word" : null;
}
