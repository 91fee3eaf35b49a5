// A run, followed to its end. Events are numbered: whatever comes twice is left out, and a new socket asks for what is missing.

import { STREAM } from "./documents.js";

/** `onChange` hears that there is more, at most once a frame and at once for the first piece; `onEnd(generation, errors)` the end. */
export class Stream {
  text = "";
  reasoning = "";
  tools = [];
  /** What a person must allow before the run goes on. */
  asks = [];
  #seq = 0;
  #onChange;
  #onEnd;
  #stop;
  #isDue = false;
  #isOver = false;

  constructor(socket, id, { onChange, onEnd }) {
    this.#onChange = onChange;
    this.#onEnd = onEnd;
    this.#stop = socket.follow({
      query: STREAM,
      variables: () => ({ id, after: this.#seq }),
      next: (answer) => this.#hear(answer),
      over: (errors) => this.#end(null, errors),
    });
  }

  /** Follows no longer; the run goes on. */
  leave() {
    this.#isOver = true;
    this.#stop();
  }

  #hear({ data, errors }) {
    const event = data?.generation;
    if (!event) {
      this.#end(null, errors);
      this.#stop();
      return;
    }
    if (event.seq <= this.#seq) return;
    this.#seq = event.seq;
    const isFirst = !this.text && !this.reasoning;
    HEARD[event.__typename]?.(this, event);
    if (event.generation) this.#end(event.generation, null);
    else this.#draw(isFirst && Boolean(this.text || this.reasoning));
  }

  #draw(isUrgent) {
    if (isUrgent || document.hidden) {
      this.#onChange();
    } else if (!this.#isDue) {
      this.#isDue = true;
      requestAnimationFrame(() => {
        this.#isDue = false;
        if (!this.#isOver) this.#onChange();
      });
    }
  }

  #end(generation, errors) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#onEnd(generation, errors);
  }
}

const HEARD = {
  TextDelta: (stream, { text }) => {
    stream.text += text;
  },
  ReasoningDelta: (stream, { text }) => {
    stream.reasoning += text;
  },
  ToolCallDelta: (stream, { index, toolCallId, name, argumentsText }) => {
    const tool = (stream.tools[index] ??= { id: toolCallId, name: name ?? "", arguments: "", output: null });
    tool.arguments += argumentsText;
  },
  ToolCallFinished: (stream, { toolCall }) => {
    Object.assign(stream.tools.find((tool) => tool?.id === toolCall.id) ?? {}, toolCall);
  },
  ApprovalRequested: (stream, { approvalId, tool, given }) => {
    stream.asks.push({ id: approvalId, tool, given });
  },
  ApprovalDecided: (stream, { approvalId }) => {
    stream.asks = stream.asks.filter(({ id }) => id !== approvalId);
  },
  GenerationSnapshot: (stream, { text, reasoning, toolCalls }) => {
    Object.assign(stream, { text, reasoning, tools: toolCalls.map((call) => ({ ...call })) });
  },
};
