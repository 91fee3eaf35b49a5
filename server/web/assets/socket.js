// Subscriptions over one WebSocket that speaks graphql-transport-ws. A lost socket is opened again, and every follower goes on
// from where it was: `variables()` is asked anew each time.

const PROTOCOL = "graphql-transport-ws";
const FORBIDDEN = 4403;
const PAUSES = [150, 500, 1000, 2000, 4000, 8000];
const PING = 15_000;
const PATIENCE = 10_000;
const CROWDED = /RATE_LIMITED|TOO_MANY|UNAVAILABLE/;

export class Socket {
  #url;
  #session;
  #onState;
  #socket = null;
  #isReady = false;
  #token = null;
  #followers = new Map();
  #lastId = 0;
  #losses = 0;
  #timer = 0;
  #heart = 0;
  #answerDue = 0;

  /** `onState` hears "open", "opening", "lost", and "crowded" with the seconds to wait. */
  constructor(url, session, onState) {
    this.#url = url;
    this.#session = session;
    this.#onState = onState;
    addEventListener("offline", () => this.#drop());
    addEventListener("online", () => this.#again(0));
  }

  /**
   * Follows a subscription until its end, across lost sockets. Answers what stops it.
   *
   * `next(answer)` hears each event, `over(errors)` the end: null when it is complete. `again()` hears that a new socket goes on.
   */
  follow({ query, variables, next, over, again = () => {} }) {
    const id = String(++this.#lastId);
    this.#followers.set(id, { query, variables, next, over, again, isAsked: false });
    if (this.#isReady) this.#ask(id);
    else this.#open();
    return () => {
      if (this.#followers.delete(id)) this.#send({ id, type: "complete" });
    };
  }

  /** Ends all that is followed: somebody else comes. */
  close() {
    this.#followers.clear();
    this.#forget(1000);
    clearTimeout(this.#timer);
    this.#losses = 0;
  }

  async #open() {
    if (this.#socket || !navigator.onLine) return;
    const socket = new WebSocket(this.#url, PROTOCOL);
    this.#socket = socket;
    this.#onState("opening");
    socket.onopen = async () => {
      try {
        this.#token = await this.#session.token();
        const payload = this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
        if (this.#socket === socket) this.#send({ type: "connection_init", payload });
      } catch {
        socket.close();
      }
    };
    socket.onmessage = ({ data }) => {
      if (this.#socket === socket) this.#receive(JSON.parse(data));
    };
    socket.onclose = ({ code }) => {
      if (this.#socket === socket) this.#lose(code);
    };
  }

  #receive({ type, id, payload }) {
    const follower = this.#followers.get(id);
    if (type === "next") follower?.next(payload);
    else if (type === "complete") this.#end(id, null);
    else if (type === "error") this.#refused(id, payload);
    else if (type === "ping") this.#send({ type: "pong" });
    else if (type === "pong") clearTimeout(this.#answerDue);
    else if (type === "connection_ack") this.#ready();
  }

  #ready() {
    this.#isReady = true;
    this.#losses = 0;
    this.#heart = setInterval(() => this.#beat(), PING);
    this.#onState("open");
    for (const id of [...this.#followers.keys()]) this.#ask(id);
  }

  #ask(id) {
    const follower = this.#followers.get(id);
    if (!follower) return;
    if (follower.isAsked) follower.again();
    follower.isAsked = true;
    this.#onState("open");
    this.#send({ id, type: "subscribe", payload: { query: follower.query, variables: follower.variables() } });
  }

  #refused(id, errors) {
    const { code, retryAfter } = errors[0]?.extensions ?? {};
    if (!CROWDED.test(code)) {
      this.#end(id, errors);
      return;
    }
    const seconds = Math.ceil(Math.min(Math.max(retryAfter ?? 3, 1), 60));
    this.#onState("crowded", seconds);
    setTimeout(() => this.#isReady && this.#ask(id), seconds * 1000);
  }

  #end(id, errors) {
    const follower = this.#followers.get(id);
    this.#followers.delete(id);
    follower?.over(errors);
  }

  /** A dead line often closes nothing. */
  #beat() {
    this.#send({ type: "ping" });
    clearTimeout(this.#answerDue);
    this.#answerDue = setTimeout(() => this.#drop(), PATIENCE);
  }

  #drop() {
    if (!this.#socket) return;
    this.#forget(4000);
    this.#lose(0);
  }

  #forget(code) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isReady = false;
    clearInterval(this.#heart);
    clearTimeout(this.#answerDue);
    socket?.close(code);
  }

  async #lose(code) {
    this.#forget(1000);
    if (!this.#followers.size) return;
    this.#onState("lost");
    if (code === FORBIDDEN) {
      const token = await this.#session.renewed(this.#token).catch(() => this.#token);
      if (!token) return;
      if (token !== this.#token) this.#losses = 0;
    }
    const pause = PAUSES[Math.min(this.#losses++, PAUSES.length - 1)];
    this.#again(pause * (0.75 + Math.random() / 2));
  }

  #again(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#followers.size && this.#open(), milliseconds);
  }

  #send(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
