// A tool that a model has called: what it was given, and what it gave.

import { h, icon } from "./dom.js";

/** Folded, so that an answer can be read past it. `isLive`: whether somebody may still be waiting for it. */
export function call({ name, arguments: given, output, isError }, isLive = false) {
  const state = isError ? "failed" : output === null && isLive ? "at work …" : "";
  const summary = h("summary", {}, icon("tool"), h("span", { text: name }), h("span", { class: isError ? "problem" : "quiet", text: state }));
  const block = (title, text) => [h("p", { class: "quiet", text: title }), h("pre", { tabindex: "0" }, h("code", { text }))];
  const parts = [...block("Given", readable(given)), ...(output ? block(isError ? "Why it failed" : "Gave", readable(output)) : [])];
  return h("details", { class: "call" }, summary, ...parts);
}

/** What is JSON is shown in lines. */
export function readable(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** One that stands in a conversation by itself, with the face of a message. */
export class Call {
  running = [];
  item;
  element;

  constructor(_app, item) {
    this.element = h("li", { id: item.id, class: "between" });
    this.update(item);
  }

  update(item) {
    const isOpen = this.element.querySelector("details")?.open ?? false;
    this.item = { ...item, siblings: [] };
    const shown = call(item, item.status === "IN_PROGRESS");
    shown.open = isOpen;
    this.element.replaceChildren(shown);
  }

  settle() {}

  dispose() {
    this.element.remove();
  }
}
