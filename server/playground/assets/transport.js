// Queries and mutations over HTTP, subscriptions over a WebSocket that speaks graphql-transport-ws.

/** Sends one operation. Answers `{status, answer}`; throws only where there was no answer at all. */
export async function post(url, token, payload, signal) {
  const response = await fetch(url, {
    method: "POST",
    headers: {
      Accept: "application/graphql-response+json, application/json",
      "Content-Type": "application/json",
      ...(token ? { Authorization: `Bearer ${token}` } : {}),
    },
    body: JSON.stringify(payload),
    cache: "no-store",
    credentials: "omit",
    signal,
  });
  const text = await response.text();
  try {
    return { status: response.status, answer: JSON.parse(text) };
  } catch {
    const message = `The server answered ${response.status} without JSON`;
    return { status: response.status, answer: { errors: [{ message }] } };
  }
}

/**
 * One socket for all subscriptions, opened when the first needs it.
 *
 * `token()` is asked at each opening. `onState(state, detail)` hears "idle", "connecting", "open" and "lost".
 */
export class Socket {
  #url;
  #token;
  #onState;
  #socket = null;
  #opening = null;
  #sinks = new Map();
  #lastId = 0;

  constructor(url, token, onState) {
    this.#url = url;
    this.#token = token;
    this.#onState = onState;
  }

  open() {
    this.#opening ??= new Promise((resolve, reject) => {
      const socket = new WebSocket(this.#url, "graphql-transport-ws");
      this.#socket = socket;
      this.#onState("connecting", "");
      socket.onopen = () => {
        const token = this.#token();
        this.#send({ type: "connection_init", payload: token ? { Authorization: `Bearer ${token}` } : {} });
      };
      socket.onmessage = ({ data }) => {
        if (this.#socket === socket) this.#receive(JSON.parse(data), resolve);
      };
      socket.onclose = ({ code, reason }) => {
        const detail = [code, reason].filter(Boolean).join(" ");
        reject(new Error(`The socket closed: ${detail}`));
        if (this.#socket === socket) this.#end("lost", detail);
      };
    });
    return this.#opening;
  }

  close() {
    const socket = this.#socket;
    this.#end("idle", "");
    socket?.close(1000);
  }

  /** Resolves when it is over, with `{kind, errors?}`: "complete", "error", "stopped" through the signal, or "lost". */
  async subscribe(payload, onNext, signal) {
    const stopped = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
    await Promise.race([this.open(), stopped]);
    if (signal.aborted) return { kind: "stopped" };
    const id = String(++this.#lastId);
    return new Promise((resolve) => {
      const stop = () => {
        this.#send({ id, type: "complete" });
        end({ kind: "stopped" });
      };
      const end = (outcome) => {
        this.#sinks.delete(id);
        signal.removeEventListener("abort", stop);
        resolve(outcome);
      };
      signal.addEventListener("abort", stop);
      this.#sinks.set(id, { onNext, end });
      this.#send({ id, type: "subscribe", payload });
    });
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  #receive({ type, id, payload }, onReady) {
    const sink = this.#sinks.get(id);
    if (type === "connection_ack") {
      this.#onState("open", "");
      onReady();
    } else if (type === "ping") {
      this.#send({ type: "pong" });
    } else if (type === "next") {
      sink?.onNext(payload);
    } else if (type === "error") {
      sink?.end({ kind: "error", errors: payload });
    } else if (type === "complete") {
      sink?.end({ kind: "complete" });
    }
  }

  #end(state, detail) {
    this.#socket = null;
    this.#opening = null;
    this.#onState(state, detail);
    for (const { end } of [...this.#sinks.values()]) end({ kind: "lost" });
  }
}
