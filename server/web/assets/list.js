// The conversations of whoever is signed in, the latest first; what other devices do is seen here as it happens. A search
// stands in their place while something is looked for.

import { LIST, SEARCH } from "./documents.js";
import { button, h, part } from "./dom.js";
import { say } from "./speech.js";

const DELAY = 250;
const DAY = 86_400_000;

export class List {
  #app;
  #place = part("list");
  #found = new Map();
  #next = null;
  #isArchived = false;
  #current = null;
  #timer = 0;
  #asked = 0;

  constructor(app) {
    this.#app = app;
    part("search").addEventListener("input", () => this.#lookLater());
    part("search").addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.target.value = "";
      this.draw();
    });
    part("archived").addEventListener("click", () => this.#toggleArchived());
    this.#place.addEventListener("keydown", (event) => this.#step(event));
  }

  clear() {
    this.#found.clear();
    this.#next = null;
    part("search").value = "";
    this.draw();
  }

  async load(after = null) {
    const isArchived = this.#isArchived;
    const data = await this.#app.attempt(() => this.#app.graph.read(LIST, { after, isArchived }));
    if (!data || isArchived !== this.#isArchived) return;
    if (!after) this.#found.clear();
    for (const { node } of data.conversations.edges) this.#found.set(node.id, node);
    const { hasNextPage, endCursor } = data.conversations.pageInfo;
    this.#next = hasNextPage ? endCursor : null;
    this.draw();
  }

  get(id) {
    return this.#found.get(id);
  }

  put(conversation) {
    if (conversation.isArchived === this.#isArchived) this.#found.set(conversation.id, { ...this.#found.get(conversation.id), ...conversation });
    else this.#found.delete(conversation.id);
    this.draw();
  }

  remove(id) {
    this.#found.delete(id);
    this.draw();
  }

  mark(id) {
    this.#current = id;
    for (const link of this.#place.querySelectorAll("a")) this.#markLink(link);
  }

  #markLink(link) {
    if (link.dataset.id === this.#current) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }

  draw() {
    if (part("search").value.trim()) return;
    const focused = this.#place.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const all = [...this.#found.values()].sort((a, b) => b.updatedAt.localeCompare(a.updatedAt));
    const groups = grouped(all);
    const nodes = [...groups].flatMap(([age, some]) => [h("h2", { text: age }), h("ul", {}, ...some.map((one) => this.#row(one)))]);
    if (!nodes.length) nodes.push(h("p", { class: "empty", text: this.#isArchived ? "Nothing is put away." : "Your conversations will stand here." }));
    if (this.#next) nodes.push(button("Show more", () => this.load(this.#next), { class: "more-button" }));
    this.#place.replaceChildren(...nodes);
    if (focused) this.#place.querySelector(`a[data-id="${focused}"]`)?.focus();
  }

  #row({ id, title }) {
    const link = h("a", { href: `#/c/${id}`, "data-id": id, text: title || "New conversation" });
    this.#markLink(link);
    return h("li", {}, link);
  }

  /** Up and down go from one to the next. */
  #step(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const links = [...this.#place.querySelectorAll("a")];
    const next = links[links.indexOf(document.activeElement) + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }

  async #toggleArchived() {
    this.#isArchived = !this.#isArchived;
    part("archived").setAttribute("aria-pressed", String(this.#isArchived));
    part("search").value = "";
    await this.load();
  }

  // ---- Search

  #lookLater() {
    clearTimeout(this.#timer);
    const text = part("search").value.trim();
    if (text) this.#timer = setTimeout(() => this.#look(text), DELAY);
    else this.draw();
  }

  async #look(text) {
    const number = ++this.#asked;
    const data = await this.#app.attempt(() => this.#app.graph.read(SEARCH, { text }));
    if (!data || number !== this.#asked || part("search").value.trim() !== text) return;
    const hits = data.search.edges.map(({ node }) => this.#hit(node));
    const count = hits.length === 1 ? "1 match" : `${hits.length || "No"} matches`;
    say(count);
    this.#place.replaceChildren(h("h2", { text: count }), h("ul", {}, ...hits));
  }

  #hit({ excerpt, ranges, item, conversation }) {
    const place = item ? `#/c/${conversation.id}/${item.id}` : `#/c/${conversation.id}`;
    const link = h("a", { href: place, class: "hit", "data-id": conversation.id });
    link.append(h("strong", { text: conversation.title || "New conversation" }), h("span", {}, ...marked(excerpt, ranges)));
    return h("li", {}, link);
  }
}

/** The ranges count characters as people do, not as the language does. */
function marked(text, ranges) {
  const characters = [...text];
  const nodes = [];
  let last = 0;
  for (const { start, end } of ranges) {
    nodes.push(characters.slice(last, start).join(""), h("mark", { text: characters.slice(start, end).join("") }));
    last = end;
  }
  return [...nodes, characters.slice(last).join("")];
}

function ageOf({ updatedAt }) {
  const today = new Date().setHours(0, 0, 0, 0);
  const then = Date.parse(updatedAt);
  if (then >= today) return "Today";
  if (then >= today - DAY) return "Yesterday";
  return then >= today - 7 * DAY ? "This week" : "Earlier";
}

function grouped(all) {
  const groups = new Map();
  for (const one of all) groups.set(ageOf(one), [...(groups.get(ageOf(one)) ?? []), one]);
  return groups;
}
