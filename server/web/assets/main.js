// The console: who is here, what is open, and what is done to it.

import { account, welcome } from "./account.js";
import { Composer } from "./composer.js";
import * as dialogs from "./dialogs.js";
import * as documents from "./documents.js";
import { clearHere, h, icon, keptHere, part, tell } from "./dom.js";
import { Feed } from "./feed.js";
import { Graph, GraphError } from "./graph.js";
import { List } from "./list.js";
import { Session } from "./session.js";
import { Socket } from "./socket.js";
import { say } from "./speech.js";
import { Thread } from "./thread.js";

// Beside the folder of this file, so that a path prefix before both does not matter.
const endpoint = new URL("../graphql", import.meta.url);
const socketAddress = new URL(endpoint);
socketAddress.protocol = endpoint.protocol.replace("http", "ws");

const SOON = 200;
const THEMES = ["system", "light", "dark"];
const LOST = "Connection lost. Trying again …";
const ENDED = "The sign-in has ended. Sign in again to go on.";
const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const isNarrow = matchMedia("(max-width: 48rem)");

class App {
  session = new Session(endpoint, (user, wasEnded) => this.#enter(user, wasEnded));
  graph = new Graph(endpoint, this.session);
  socket = new Socket(socketAddress, this.session, (state, seconds) => this.#onState(state, seconds));
  /** Messages that are shown beside their alternatives. */
  beside = new Set(keptHere.get("beside") ?? []);
  #list = new List(this);
  #thread = new Thread(this);
  #composer = new Composer(this);
  #feed = new Feed(this);
  #open = null; // the ID of the conversation that is open
  #userId = null;
  #timer = 0;
  #news = new Set();

  start() {
    addEventListener("hashchange", () => this.#route());
    this.#enter(this.session.user, false);
  }

  // ---- Who is here

  #enter(user, wasEnded) {
    part("welcome").hidden = Boolean(user);
    part("app").hidden = !user;
    const isAnother = user?.id !== this.#userId;
    this.#userId = user?.id ?? null;
    if (user) part("who").textContent = user.displayName || user.email || "Guest";
    if (!isAnother && user) return;
    this.socket.close();
    this.#list.clear();
    this.#thread.clear();
    if (part("dialog").open) part("dialog").close();
    if (!user) {
      if (!wasEnded) this.#forget();
      welcome(this.session, wasEnded ? ENDED : "");
      return;
    }
    this.#feed.start();
    this.#composer.loadModels();
    this.#list.load();
    this.#open = undefined;
    this.#route();
  }

  /** What one person began is not for the next one. */
  #forget() {
    this.beside.clear();
    clearHere();
    if (this.#open) history.replaceState(null, "", "#/");
  }

  #onState(state, seconds) {
    // A lost one is lost until it is open again.
    if (state === "opening") return;
    const text = { open: "", lost: LOST }[state] ?? `Too many requests. Going on in ${seconds} s …`;
    if (part("connection").textContent !== text) part("connection").textContent = text;
    part("connection").hidden = !text;
  }

  /** What the work gives, or null after having told what went wrong. */
  async attempt(work) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GraphError)) throw error;
      if (this.session.user) tell(error.message, true);
      return null;
    }
  }

  // ---- What is open

  #route() {
    if (!this.session.user) return;
    const [, id = null, itemId = null] = /^#\/c\/([\w-]+)(?:\/([\w-]+))?$/.exec(location.hash) ?? [];
    this.#drawer(false);
    if (id === this.#open) {
      if (itemId) this.#thread.reveal(itemId);
      return;
    }
    this.#open = id;
    this.#list.mark(id);
    this.#thread.clear();
    this.#composer.open(id);
    this.#show("blank", id === null);
    this.#show("missing", false);
    this.#title(id ? (this.#list.get(id)?.title ?? "") : "New conversation");
    this.#onRunning();
    if (!isNarrow.matches) this.#composer.focus();
    if (id) this.#load(id, itemId);
  }

  async #load(id, itemId) {
    this.#show("loading", true);
    const conversation = await this.attempt(() => this.#thread.load(id));
    this.#show("loading", false);
    if (this.#open !== id) return;
    if (!conversation) {
      this.#show("missing", true);
      this.#title("Not here");
      return;
    }
    this.#take(conversation);
    say(`${conversation.title || "New conversation"} is open.`);
    if (itemId) this.#thread.reveal(itemId);
  }

  #take(conversation) {
    this.#thread.show(conversation);
    this.#title(conversation.title);
    this.#news.clear();
    this.#onRunning();
  }

  #show(id, isShown) {
    part(id).hidden = !isShown;
  }

  #title(text) {
    part("title").textContent = text || "New conversation";
    document.title = `${text || "New conversation"} · Loquent`;
    part("actions").hidden = !this.#open;
  }

  /** Reads the open conversation anew, and keeps what is the same. */
  async reload() {
    const id = this.#open;
    if (!id || !this.session.user) return;
    const conversation = await this.attempt(() => this.#thread.load(id));
    if (conversation && this.#open === id) this.#take(conversation);
  }

  // ---- What others do

  onMissed() {
    this.#list.load();
    this.reload();
  }

  onUpserted(conversation) {
    this.#list.put(conversation);
    if (conversation.id !== this.#open) return;
    const shown = this.#thread.conversation;
    this.#title(conversation.title);
    if (!shown) return;
    Object.assign(shown, { title: conversation.title, isArchived: conversation.isArchived });
    if (shown.activeBranch !== conversation.activeBranch) this.#reloadSoon("branch");
  }

  onDeleted(id) {
    this.#list.remove(id);
    if (id === this.#open) location.hash = "#/";
  }

  onItem(conversationId, id, node) {
    if (conversationId !== this.#open || !this.#thread.conversation) return;
    const message = this.#thread.message(id);
    if (node?.callStatus) {
      // While it is followed, its stream tells of it.
      if (!this.#thread.running.length && message?.item.status !== node.callStatus) this.#reloadSoon("call");
    } else if (message && node) {
      const { item, running } = message;
      if (running.length || item.version === node.version) return;
      // What we have followed to its end has another version than when it began; the text is the same.
      if (item.version === null && item.status === node.status) item.version = node.version;
      else this.#reloadSoon("changed");
    } else if (!message && node ? !this.#thread.knows(id) : message) this.#reloadSoon(id);
  }

  /** Not at once: our own doing is told here too, and its answer is on its way. */
  #reloadSoon(reason) {
    this.#news.add(reason);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      const isNews = [...this.#news].some((one) => !one.startsWith("msg_") || !this.#thread.knows(one));
      this.#news.clear();
      if (isNews) this.reload();
    }, SOON);
  }

  // ---- What is said

  onGrowth() {
    this.#thread.onGrowth();
  }

  isApart(callId) {
    return this.#thread.isApart(callId);
  }

  /** A run has ended. One that has called tools has left messages of its own before its answer. */
  onEnd(item, hasCalled) {
    if (hasCalled) this.#reloadSoon("calls");
    this.#thread.message(item.id)?.settle(item);
    for (const message of this.#thread.messagesWith(item.id)) message.settle(item);
    this.#onRunning();
  }

  #onRunning() {
    this.#composer.setRunning(this.#thread.running.length);
  }

  /** Whether it was sent. `models`: two names, or null for the one that is picked. */
  async send(text, models) {
    this.#show("blank", false);
    this.#thread.pend(text);
    const isSent = await this.attempt(() => this.#deliver(text, models));
    if (!isSent) {
      this.#thread.unpend();
      this.#show("blank", !this.#open);
    }
    return Boolean(isSent);
  }

  async #deliver(text, models) {
    const id = this.#open ?? (await this.#create());
    const input = { conversationId: id, content: [{ text }], idempotencyKey: newKey() };
    if (models) {
      const { replies } = await this.graph.write("compareModels", documents.COMPARE, { ...input, models, options: { tools: this.#composer.options.tools } });
      this.setBeside(replies.map(({ edge }) => edge.node.id), true);
      await this.reload();
      return true;
    }
    const payload = await this.graph.write("sendMessage", documents.SEND, { ...input, generate: this.#composer.options });
    if (this.#open !== id) return true;
    this.#thread.append([payload.messageEdge.node, payload.replyEdge.node]);
    this.#onRunning();
    return true;
  }

  async #create() {
    const { conversation } = await this.graph.write("createConversation", documents.CREATE, {});
    this.#open = conversation.id;
    history.pushState(null, "", `#/c/${conversation.id}`);
    this.#list.put(conversation);
    this.#list.mark(conversation.id);
    this.#thread.begin(conversation);
    this.#title("");
    return conversation.id;
  }

  /** Does something to a message and shows what has become of the conversation. Answers whether it could be done. */
  async act(kind, messageId, text) {
    const { options } = this.#composer;
    const acts = {
      edit: () => this.graph.write("editMessage", documents.EDIT, { messageId, content: [{ text }], generate: options }),
      regenerate: () => this.graph.write("regenerateMessage", documents.REGENERATE, { messageId, options }),
      remove: () => this.graph.write("deleteMessage", documents.REMOVE, { messageId }),
      keep: () => this.graph.write("keepMessage", documents.KEEP, { messageId }),
    };
    if (!(await this.attempt(acts[kind]))) return false;
    await this.reload();
    if (kind === "remove") tell("Taken away; a branch keeps it");
    return true;
  }

  setBeside(ids, isBeside) {
    for (const id of ids) this.beside[isBeside ? "add" : "delete"](id);
    keptHere.set("beside", [...this.beside].slice(-200));
  }

  async stop() {
    const runs = this.#thread.running;
    await Promise.all(runs.map((id) => this.attempt(() => this.graph.write("cancelGeneration", documents.CANCEL, { id }))));
  }

  // ---- What is done to the whole of it

  async rename() {
    const { id, title } = this.#thread.conversation;
    const wanted = await dialogs.ask("Rename", "Title", title ?? "");
    if (wanted) await this.#change({ id, title: wanted });
  }

  async archive() {
    const { id, isArchived } = this.#thread.conversation;
    if (await this.#change({ id, isArchived: !isArchived })) tell(isArchived ? "Back in the list" : "Put away");
  }

  async #change(input) {
    const payload = await this.attempt(() => this.graph.write("updateConversation", documents.UPDATE, input));
    if (payload) this.onUpserted({ ...payload.conversation, activeBranch: this.#thread.conversation?.activeBranch });
    return payload;
  }

  async remove() {
    const { id, title } = this.#thread.conversation;
    const text = `“${title || "New conversation"}” will be gone for good, with all its branches and links.`;
    if (!(await dialogs.confirm("Delete?", text, "Delete"))) return;
    if (await this.attempt(() => this.graph.write("deleteConversations", documents.DELETE, { ids: [id] }))) this.onDeleted(id);
  }

  async download() {
    const { id, title } = this.#thread.conversation;
    const data = await this.attempt(() => this.graph.read(documents.EXPORT, { id }));
    if (!data?.exportConversation) return;
    const url = URL.createObjectURL(new Blob([data.exportConversation], { type: "text/markdown" }));
    h("a", { href: url, download: `${(title || "conversation").replace(/[^\p{L}\p{N} -]/gu, "")}.md` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  share() {
    return dialogs.share(this, this.#thread.conversation);
  }

  async branches() {
    const conversation = await this.attempt(() => this.#thread.load(this.#open));
    if (conversation) dialogs.branches(this, conversation);
  }

  account() {
    account(this.session);
  }

  fresh() {
    location.hash = "#/";
    this.#drawer(false);
    this.#composer.focus();
  }

  suggest(text) {
    this.#composer.write(text);
    this.#composer.focus();
  }

  /** On a phone the list comes over the page. */
  drawer() {
    this.#drawer(!document.body.classList.contains("drawer"));
  }

  #drawer(isShown) {
    const wasShown = document.body.classList.contains("drawer");
    document.body.classList.toggle("drawer", isShown);
    part("menu").setAttribute("aria-expanded", String(isShown));
    part("main").inert = isShown;
    part("sidebar").inert = isNarrow.matches && !isShown;
    if (isShown) part("search").focus();
    else if (wasShown) part("menu").focus();
  }

  resized() {
    this.#drawer(false);
  }
}

function turnTheme() {
  const now = document.documentElement.dataset.theme ?? "system";
  const next = THEMES[(THEMES.indexOf(now) + 1) % THEMES.length];
  if (next === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  // Not as JSON: the script that reads it before the page is drawn is as short as can be.
  try {
    localStorage.setItem("loquent.theme", next);
  } catch {
    // It is only forgotten.
  }
  tell(`Look: ${next === "system" ? "as the system has it" : next}`);
}

const app = new App();

for (const element of document.querySelectorAll("[data-icon]")) element.prepend(icon(element.dataset.icon));
for (const element of document.querySelectorAll("[data-act]"))
  element.addEventListener("click", () => {
    element.closest("details")?.removeAttribute("open");
    app[element.dataset.act]();
  });
for (const element of document.querySelectorAll("[data-say]")) element.addEventListener("click", () => app.suggest(element.textContent));
document.querySelector(".skip").addEventListener("click", (event) => {
  // Without changing the address, which tells what is open.
  event.preventDefault();
  part("compose").focus();
});
part("theme").addEventListener("click", turnTheme);
part("shade").addEventListener("click", () => app.drawer());
isNarrow.addEventListener("change", () => app.resized());
addEventListener("keydown", (event) => {
  const isCommand = event.ctrlKey || event.metaKey;
  if (isCommand && event.key.toLowerCase() === "k") {
    event.preventDefault();
    if (isNarrow.matches && !document.body.classList.contains("drawer")) app.drawer();
    part("search").focus();
  } else if (isCommand && event.shiftKey && event.key.toLowerCase() === "o") {
    event.preventDefault();
    app.fresh();
  } else if (event.key === "Escape") {
    if (document.body.classList.contains("drawer")) app.drawer();
    const menu = document.querySelector("details.menu[open]");
    menu?.removeAttribute("open");
    menu?.querySelector("summary").focus();
  }
});
addEventListener("click", ({ target }) => {
  const menu = document.querySelector("details.menu[open]");
  if (menu && !menu.contains(target)) menu.removeAttribute("open");
});
app.start();
