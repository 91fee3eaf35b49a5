// The conversation that is open: its messages in their order, and the place that is scrolled to.

import { Call } from "./call.js";
import { CONVERSATION } from "./documents.js";
import { button, h, part } from "./dom.js";
import { Message } from "./message.js";

const PAGE = 24;
const MOST = 96;
const NEAR = 90;

export class Thread {
  #app;
  #place = part("thread");
  #scroll = part("scroll");
  #messages = new Map();
  #isAtEnd = true;
  #earlier = null;
  #pending = null;
  #apart = new Set();
  conversation = null;

  constructor(app) {
    this.#app = app;
    this.#scroll.addEventListener("scroll", () => this.#look(), { passive: true });
    part("latest").addEventListener("click", () => this.toEnd(true));
    new ResizeObserver(() => this.onGrowth()).observe(this.#place);
  }

  /** The runs that are at work in what is shown. */
  get running() {
    return [...this.#messages.values()].flatMap((message) => message.running);
  }

  knows(id) {
    return [...this.#messages.values()].some(({ item }) => item.id === id || item.siblings.some((one) => one.id === id));
  }

  message(id) {
    return this.#messages.get(id);
  }

  /** Whether a call stands by itself, and need not stand in the message that it is of. */
  isApart(id) {
    return this.#apart.has(id);
  }

  /** Those that this one is an alternative of. */
  messagesWith(id) {
    return [...this.#messages.values()].filter(({ item }) => item.id !== id && item.siblings.some((one) => one.id === id));
  }

  /** A conversation that has nothing in it yet. */
  begin(conversation) {
    this.conversation = { ...conversation, branches: [], items: { pageInfo: {}, edges: [] } };
  }

  /** Reads it from the server; null when it is not there. Throws GraphError. */
  async load(id) {
    const { conversation } = await this.#app.graph.read(CONVERSATION(this.#size(id)), { id });
    return conversation;
  }

  /** As much as is shown already, so that nothing of it goes. */
  #size(id) {
    const pages = this.conversation?.id === id ? Math.ceil((this.#messages.size + 2) / PAGE) : 1;
    return Math.min(pages * PAGE, MOST);
  }

  clear() {
    for (const message of this.#messages.values()) message.dispose();
    this.#messages.clear();
    this.#place.replaceChildren();
    this.conversation = null;
    this.#pending = null;
    this.#isAtEnd = true;
    part("latest").hidden = true;
  }

  /** Puts what was loaded in the place of what is shown; what is the same stays. */
  show(conversation) {
    const isAnother = this.conversation?.id !== conversation.id;
    if (isAnother) this.clear();
    this.conversation = conversation;
    const items = arranged(conversation.items.edges.map(({ node }) => node));
    for (const { id } of items.filter(isCall)) this.#apart.add(id);
    const ids = new Set(items.map(({ id }) => id));
    for (const [id, message] of this.#messages) {
      if (ids.has(id)) continue;
      message.dispose();
      this.#messages.delete(id);
    }
    this.#settlePending();
    items.forEach((item, at) => this.#put(item, at));
    this.#drawEarlier(conversation.items.pageInfo);
    if (isAnother) this.toEnd(true);
    else this.onGrowth();
  }

  #put(item, at) {
    let message = this.#messages.get(item.id);
    if (message) message.update(item);
    else this.#messages.set(item.id, (message = new (isCall(item) ? Call : Message)(this.#app, item)));
    const place = this.#place.children[at + (this.#earlier ? 1 : 0)];
    if (place !== message.element) this.#place.insertBefore(message.element, place ?? null);
  }

  /** What a mutation has added at the end. */
  append(items) {
    this.#settlePending();
    for (const item of items) {
      if (this.#messages.has(item.id)) continue;
      const message = new Message(this.#app, item);
      this.#messages.set(item.id, message);
      this.#place.append(message.element);
    }
    this.toEnd(true);
  }

  /** A message on its way, before the server has it. */
  pend(text) {
    this.#settlePending();
    const article = h("article", { class: "message user", "aria-label": "You" }, h("h2", { class: "who", text: "You" }));
    article.append(h("div", { class: "content" }, h("div", { class: "plain", text })));
    this.#pending = h("li", { class: "pending" }, article);
    this.#place.append(this.#pending);
    this.toEnd(true);
  }

  #settlePending() {
    this.#pending?.remove();
    this.#pending = null;
  }

  unpend() {
    this.#settlePending();
  }

  #drawEarlier({ hasPreviousPage, startCursor }) {
    this.#earlier?.remove();
    this.#earlier = null;
    if (!hasPreviousPage) return;
    const more = button("Show what was before", () => this.#loadEarlier(startCursor, more));
    this.#earlier = h("li", { class: "earlier" }, more);
    this.#place.prepend(this.#earlier);
  }

  async #loadEarlier(before, more) {
    more.disabled = true;
    const { id } = this.conversation;
    const found = await this.#app.attempt(() => this.#app.graph.read(CONVERSATION(PAGE), { id, before }));
    more.disabled = false;
    if (!found?.conversation || this.conversation?.id !== id) return;
    const height = this.#scroll.scrollHeight;
    const page = found.conversation.items;
    arranged(page.edges.map(({ node }) => node)).forEach((item, at) => this.#put(item, at));
    this.conversation.items.pageInfo = page.pageInfo;
    this.#drawEarlier(page.pageInfo);
    this.#scroll.scrollTop += this.#scroll.scrollHeight - height;
    this.#place.querySelector(".earlier button, .tools button")?.focus({ preventScroll: true });
  }

  // ---- Where it is scrolled to

  onGrowth() {
    if (this.#isAtEnd) this.#scroll.scrollTop = this.#scroll.scrollHeight;
    else this.#look();
  }

  toEnd(isWanted) {
    if (isWanted) this.#isAtEnd = true;
    this.onGrowth();
  }

  reveal(id) {
    const element = this.#messages.get(id)?.element;
    if (!element) return;
    this.#isAtEnd = false;
    element.scrollIntoView({ block: "center" });
    element.classList.add("found");
    setTimeout(() => element.classList.remove("found"), 2500);
  }

  #look() {
    const left = this.#scroll.scrollHeight - this.#scroll.scrollTop - this.#scroll.clientHeight;
    this.#isAtEnd = left < NEAR;
    part("latest").hidden = this.#isAtEnd;
  }
}

const isCall = ({ __typename }) => __typename === "ToolCall";

/** What one run has said and called before its answer is part of that; while it runs, the answer's stream tells all of it. */
function arranged(items) {
  const last = new Map(items.filter(({ generation }) => generation).map((item) => [item.generation.id, item]));
  return items
    .filter((item) => !item.generation || item === last.get(item.generation.id) || last.get(item.generation.id).status !== "IN_PROGRESS")
    .map((item) => ({ ...item, isPart: Boolean(item.generation) && item !== last.get(item.generation.id) }));
}
