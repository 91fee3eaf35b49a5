// What a model said, or is saying: in a message of its own, or in a column beside others.

import { approval } from "./approval.js";
import { call } from "./call.js";
import { h } from "./dom.js";
import { Prose } from "./markdown.js";
import { Speech } from "./speech.js";
import { Stream } from "./stream.js";

const VERDICTS = { CANCELLED: "Stopped.", INCOMPLETE: "Not finished: it grew too long." };

export class Reply {
  #app;
  #item;
  #stream = null;
  #speech;
  #prose;
  #thought;
  #thoughts;
  #tools;
  #body;
  #asks;
  #note;
  #calls = "[]";
  element;

  /** `isSpoken`: whether a screen reader hears it as it grows. Not every one beside others. */
  constructor(app, item, isSpoken) {
    this.#app = app;
    this.#speech = isSpoken ? new Speech() : null;
    this.#thought = h("div", { class: "thought" });
    this.#thoughts = h("details", { class: "thoughts", hidden: true }, h("summary", { text: "Reasoning" }), this.#thought);
    this.#tools = h("div", { class: "calls" });
    this.#body = h("div", { class: "prose" });
    this.#prose = new Prose(this.#body);
    this.#asks = h("div");
    this.#note = h("p", { class: "remark", hidden: true });
    this.element = h("div", { class: "reply" }, this.#thoughts, this.#tools, this.#body, this.#asks, this.#note);
    this.update(item);
  }

  get text() {
    return this.#stream?.text ?? this.#item.text;
  }

  get isRunning() {
    return this.#stream !== null;
  }

  get runId() {
    return this.#item.generation?.id;
  }

  get modelName() {
    return this.#item.generation?.modelName ?? "";
  }

  /** What the server says of it now; one that is followed knows better. */
  update(item) {
    if (this.isRunning && item.status === "IN_PROGRESS") return;
    this.#stream?.leave();
    this.#stream = null;
    this.#item = { content: [], ...item };
    if (item.status === "IN_PROGRESS" && item.generation) this.#follow();
    else this.#settle();
  }

  dispose() {
    this.#stream?.leave();
    this.#stream = null;
  }

  #follow() {
    this.element.dataset.state = "running";
    this.element.setAttribute("aria-busy", "true");
    this.#note.hidden = true;
    this.#stream = new Stream(this.#app.socket, this.runId, {
      onChange: () => this.#grow(),
      onEnd: (generation, errors) => this.#end(generation, errors),
    });
  }

  #grow() {
    const { text, reasoning, tools } = this.#stream;
    this.#show(text, reasoning, tools);
    this.#showAsks(this.#stream.asks);
    this.#speech?.hear(this.#body.textContent);
    this.#app.onGrowth();
  }

  #show(text, reasoning, tools) {
    this.#prose.show(text);
    this.#thoughts.hidden = !reasoning;
    this.#thought.textContent = reasoning;
    this.#thoughts.classList.toggle("live", this.isRunning && !text);
    this.#showCalls(tools.filter(Boolean));
  }

  /** Anew only where something has changed: one that is opened stays open. */
  #showCalls(tools) {
    const now = JSON.stringify(tools);
    if (now === this.#calls) return;
    this.#calls = now;
    const open = [...this.#tools.children].map((one) => one.open);
    this.#tools.replaceChildren(...tools.map((tool) => call(tool, this.isRunning)));
    for (const [n, one] of [...this.#tools.children].entries()) one.open = open[n] ?? false;
  }

  /** One that is being answered stays as it is. */
  #showAsks(asks) {
    const shown = new Map([...this.#asks.children].map((one) => [one.dataset.id, one]));
    for (const [id, one] of shown) if (!asks.some((ask) => ask.id === id)) one.remove();
    for (const ask of asks) if (!shown.has(ask.id)) this.#asks.append(approval(this.#app, ask));
  }

  #end(generation, errors) {
    const { text, reasoning, tools } = this.#stream;
    this.#stream = null;
    const status = generation?.status === "INCOMPLETE" ? "INCOMPLETE" : "COMPLETED";
    const error = errors ? { message: errors[0].message } : generation?.error;
    this.#item = { ...this.#item, text, status, generation: { ...this.#item.generation, ...generation, error } };
    this.#item.content = contentOf(reasoning, tools);
    this.#settle();
    this.#speech?.end(this.#body.textContent, this.#note.textContent || "End of the answer.");
    this.#app.onEnd(this.#item, tools.length > 0);
  }

  #settle() {
    const { text, content, generation } = this.#item;
    const reasoning = content.filter(({ __typename }) => __typename === "ReasoningPart").map((one) => one.text);
    const tools = content.filter(({ __typename, id }) => __typename === "ToolCallPart" && !this.#app.isApart(id));
    this.element.dataset.state = "settled";
    this.element.removeAttribute("aria-busy");
    this.#showAsks([]);
    this.#show(text, reasoning.join("\n\n"), tools);
    const failure = !this.#item.isPart && generation?.error && `It failed: ${generation.error.message}`;
    const isEmpty = !text && !content.length && !this.#item.isPart;
    const remark = failure || (this.#item.isPart ? "" : VERDICTS[generation?.status]) || (isEmpty ? "It said nothing." : "");
    this.#note.hidden = !remark;
    this.#note.classList.toggle("problem", Boolean(failure));
    this.#note.textContent = remark;
  }
}

function contentOf(reasoning, tools) {
  const calls = tools.filter(Boolean).map((tool) => ({ __typename: "ToolCallPart", ...tool }));
  return [...(reasoning ? [{ __typename: "ReasoningPart", text: reasoning }] : []), ...calls];
}
