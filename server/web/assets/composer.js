// Where a message is written: to one model, or to two at once.

import { tools } from "./dialogs.js";
import { MODELS } from "./documents.js";
import { h, icon, kept, keptHere, part } from "./dom.js";

const TALLEST = 240;

export class Composer {
  #app;
  #field = part("compose");
  #models = [];
  #running = 0;
  #isSending = false;
  #isComparing = false;
  #draft = "";
  #tools = [];

  constructor(app) {
    this.#app = app;
    part("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running) app.stop();
      else this.#send();
    });
    this.#field.addEventListener("input", () => this.#grow());
    this.#field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      if (!this.#running) this.#send();
    });
    part("tools").addEventListener("click", () => this.#pickTools());
    part("compare").addEventListener("click", () => this.#toggleCompare());
    this.#setTools(kept.get("tools") ?? []);
    part("model").addEventListener("change", ({ target }) => kept.set("model", target.value));
    part("other-model").addEventListener("change", ({ target }) => kept.set("otherModel", target.value));
  }

  get model() {
    return part("model").value || null;
  }

  /** How an answer is to be written. */
  get options() {
    return { model: this.model, tools: this.#tools.length ? this.#tools : null };
  }

  async #pickTools() {
    this.#setTools(await tools(this.#app, this.#tools));
    this.focus();
  }

  #setTools(names) {
    this.#tools = names;
    kept.set("tools", names.length ? names : null);
    const label = names.length ? `Tools: ${names.join(", ")}` : "Tools";
    part("tools").setAttribute("aria-label", label);
    part("tools").title = label;
    part("tools").classList.toggle("on", names.length > 0);
  }

  async loadModels() {
    const data = await this.#app.attempt(() => this.#app.graph.read(MODELS));
    this.#models = data?.models.edges.map(({ node }) => node) ?? this.#models;
    this.#fill(part("model"), kept.get("model"), 0);
    this.#fill(part("other-model"), kept.get("otherModel"), 1);
  }

  #fill(select, wanted, at) {
    const options = this.#models.map(({ name, displayName, description }) => h("option", { value: name, text: displayName || name, title: description }));
    select.replaceChildren(...options);
    const fallback = this.#models[Math.min(at, this.#models.length - 1)]?.name;
    select.value = this.#models.some(({ name }) => name === wanted) ? wanted : (fallback ?? "");
  }

  /** What was begun for a conversation is there again when it is opened. */
  open(id) {
    this.#draft = `draft.${id ?? "new"}`;
    this.write(keptHere.get(this.#draft) ?? "");
  }

  write(text) {
    this.#field.value = text;
    this.#grow();
  }

  focus() {
    this.#field.focus({ preventScroll: true });
  }

  /** How many answers are being written here. */
  setRunning(count) {
    this.#running = count;
    this.#draw();
  }

  async #send() {
    const text = this.#field.value.trim();
    if (!text || this.#isSending) return;
    this.#isSending = true;
    this.#draw();
    const draft = this.#draft;
    this.write("");
    const models = this.#isComparing ? [part("model").value, part("other-model").value] : null;
    const isSent = await this.#app.send(text, models);
    this.#isSending = false;
    if (isSent) keptHere.set(draft, null);
    else this.write(text);
    this.#draw();
  }

  #toggleCompare() {
    this.#isComparing = !this.#isComparing;
    part("compare").setAttribute("aria-pressed", String(this.#isComparing));
    part("other-model").hidden = !this.#isComparing;
    this.focus();
  }

  #grow() {
    keptHere.set(this.#draft, this.#field.value || null);
    this.#field.style.height = "auto";
    this.#field.style.height = `${Math.min(this.#field.scrollHeight, TALLEST)}px`;
    this.#draw();
  }

  #draw() {
    const send = part("send");
    const label = this.#running ? "Stop" : "Send";
    if (send.getAttribute("aria-label") !== label) {
      send.setAttribute("aria-label", label);
      send.title = label;
      send.replaceChildren(icon(this.#running ? "stop" : "send"));
    }
    send.disabled = !this.#running && (this.#isSending || !this.#field.value.trim());
  }
}
