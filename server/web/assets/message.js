// One message of a conversation with what can be done to it. Its alternatives stand behind it, or side by side.

import { button, copy, h, iconButton } from "./dom.js";
import { safe } from "./markdown.js";
import { Reply } from "./reply.js";

const MOST_COLUMNS = 4;

export class Message {
  #app;
  #replies = [];
  #content;
  #tools;
  #name;
  #isBeside = false;
  item;
  element;

  constructor(app, item) {
    this.#app = app;
    this.#name = h("h2", { class: "who", id: `who-${item.id}` });
    this.#content = h("div", { class: "content" });
    this.#tools = h("div", { class: "tools", role: "group", "aria-label": "Actions" });
    const article = h("article", { class: `message ${item.role.toLowerCase()}`, "aria-labelledby": this.#name.id });
    article.append(this.#name, this.#content, this.#tools);
    this.element = h("li", { id: item.id }, article);
    this.#isBeside = this.#isCompared(item);
    this.#become(item);
  }

  #isCompared(item) {
    return isComparison(item) || item.siblings.some(({ id }) => this.#app.beside.has(id));
  }

  /** The runs that are at work in it. */
  get running() {
    return this.#replies.filter((reply) => reply.isRunning).map((reply) => reply.runId);
  }

  get isWritten() {
    return this.item.role !== "ASSISTANT";
  }

  /** Redrawn only where it differs, so that what is read or selected stays. */
  update(item) {
    const before = this.item;
    this.item = item;
    const others = (one) => one.siblings.map(({ id }) => id).join();
    if (others(item) !== others(before) && this.#isCompared(item)) this.#isBeside = true;
    if (others(item) !== others(before) || (this.isWritten && item.version !== before.version)) this.#become(item);
    else for (const [n, one] of this.#shown().entries()) this.#replies[n]?.update(one);
    this.#name.textContent = this.#title();
    this.#drawTools();
  }

  /** A run has ended: its actions are there now. */
  settle(ended) {
    if (this.item.id === ended.id) this.item = { ...this.item, ...ended, version: null };
    for (const one of this.item.siblings) if (one.id === ended.id) Object.assign(one, ended);
    this.#name.textContent = this.#title();
    this.#drawTools();
  }

  dispose() {
    for (const reply of this.#replies) reply.dispose();
    this.element.remove();
  }

  #title() {
    if (this.isWritten) return this.item.role === "USER" ? "You" : "System";
    return this.#isBeside ? "Side by side" : (this.item.generation?.modelName ?? "Answer");
  }

  /** The message itself, or all that stand beside it. */
  #shown() {
    if (this.isWritten) return [];
    return this.#isBeside ? this.item.siblings.slice(0, MOST_COLUMNS) : [this.item];
  }

  #become(item) {
    this.item = item;
    for (const reply of this.#replies) reply.dispose();
    this.#replies = this.#shown().map((one) => new Reply(this.#app, one, one.id === item.id));
    this.#name.textContent = this.#title();
    this.element.classList.toggle("beside", this.#isBeside && !this.isWritten);
    if (this.isWritten) this.#content.replaceChildren(...written(item));
    else if (this.#isBeside) this.#content.replaceChildren(this.#columns());
    else this.#content.replaceChildren(this.#replies[0].element);
    this.#drawTools();
  }

  #columns() {
    const columns = this.#replies.map((reply, n) => {
      const { id } = this.item.siblings[n];
      const isKept = id === this.item.id;
      const keep = button(isKept ? "Kept" : "Keep this one", () => this.#app.act("keep", id), { class: "small", disabled: isKept }, "check");
      const head = h("header", {}, h("h3", { text: reply.modelName || `Answer ${n + 1}` }), keep);
      return h("section", { class: isKept ? "column kept" : "column", "aria-label": `Answer ${n + 1}: ${reply.modelName}` }, head, reply.element);
    });
    return h("div", { class: "columns" }, ...columns);
  }

  #toggleBeside() {
    this.#isBeside = !this.#isBeside;
    this.#app.setBeside(this.item.siblings.map(({ id }) => id), this.#isBeside);
    this.#become(this.item);
    this.#tools.querySelector(".beside-toggle")?.focus();
  }

  #drawTools() {
    const { item } = this;
    // What a model said before it called a tool belongs to the answer that comes after.
    this.#tools.hidden = Boolean(item.isPart);
    const focused = this.#tools.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    const tools = [];
    if (item.siblings.length > 1 && !this.#isBeside) tools.push(this.#switch());
    if (!this.running.length) {
      tools.push(iconButton("copy", "Copy", () => copy(item.text)));
      if (item.role === "USER") tools.push(iconButton("edit", "Edit", () => this.#edit()));
      if (item.role === "ASSISTANT") tools.push(iconButton("turn", "Write another answer", () => this.#app.act("regenerate", item.id)));
    }
    if (item.role === "ASSISTANT" && item.siblings.length > 1) tools.push(this.#besideToggle());
    if (!this.running.length) tools.push(iconButton("trash", "Delete from here on", () => this.#app.act("remove", item.id)));
    tools.push(this.#bill());
    this.#tools.replaceChildren(...tools.filter(Boolean));
    if (focused) [...this.#tools.querySelectorAll("button")].find((one) => one.getAttribute("aria-label") === focused)?.focus();
  }

  #besideToggle() {
    const label = this.#isBeside ? "Show one answer" : "Show the answers side by side";
    return iconButton("columns", label, () => this.#toggleBeside(), { class: "bare beside-toggle", "aria-pressed": String(this.#isBeside) });
  }

  #bill() {
    const tokens = this.item.generation?.usage?.completionTokens;
    return tokens && !this.#isBeside ? h("span", { class: "quiet", text: tokens === 1 ? "1 token" : `${tokens} tokens` }) : null;
  }

  #switch() {
    const { siblings, id } = this.item;
    const at = siblings.findIndex((one) => one.id === id);
    const to = (step) => () => this.#app.act("keep", siblings[at + step].id);
    return h(
      "span",
      { class: "switch" },
      iconButton("left", "Previous version", to(-1), { disabled: at <= 0 }),
      h("span", { text: `${at + 1} / ${siblings.length}`, "aria-label": `Version ${at + 1} of ${siblings.length}` }),
      iconButton("right", "Next version", to(1), { disabled: at >= siblings.length - 1 }),
    );
  }

  #edit() {
    const field = h("textarea", { "aria-label": "Edit the message", rows: "3" });
    field.value = this.item.text;
    const end = () => {
      this.#content.replaceChildren(...written(this.item));
      this.#drawTools();
      this.#tools.querySelector("[aria-label=Edit]")?.focus();
    };
    const send = async () => {
      if (field.value.trim() && (await this.#app.act("edit", this.item.id, field.value))) return;
      field.focus();
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") end();
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      send();
    });
    const actions = h("div", { class: "row end" }, button("Cancel", end), button("Send", send, { class: "primary" }));
    this.#content.replaceChildren(h("div", { class: "editing" }, field, actions));
    this.#tools.replaceChildren();
    field.focus();
  }
}

const isComparison = ({ role, siblings }) =>
  role === "ASSISTANT" && siblings.filter(({ status }) => status === "IN_PROGRESS").length > 1;

/** A person's message as it was typed. An image is shown where it is in the message itself; nothing is loaded from elsewhere. */
function written({ text, content }) {
  const images = content.filter(({ __typename }) => __typename === "ImagePart").map(({ url }) => {
    if (/^data:image\/(png|jpeg|gif|webp);/.test(url)) return h("img", { src: url, alt: "Image" });
    return safe(url) ? h("a", { href: safe(url), target: "_blank", rel: "noopener noreferrer nofollow", text: "Image" }) : h("span", { text: "Image" });
  });
  return [h("div", { class: "plain", text }), ...images];
}
