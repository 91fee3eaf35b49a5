// Brings the parts of the page together: what is written, what runs, and who asks.

import { Account, memory } from "./account.js";
import { examples } from "./examples.js";
import { operations, prepareEditor } from "./language.js";
import { Result } from "./result.js";
import { INTROSPECTION, showSchema } from "./schema.js";
import { post, Socket } from "./transport.js";

// Beside the folder of this file, so that a path prefix before both does not matter.
const endpoint = new URL("../graphql", import.meta.url);
const socketAddress = new URL(endpoint);
socketAddress.protocol = endpoint.protocol.replace("http", "ws");

const IN_TURN = "*";
const FORBIDDEN = "4403"; // the socket's close code for a credential that does not hold
const REMEMBERED = ["conversationId", "generationId"];
const isNarrow = matchMedia("(max-width: 56rem)");
const part = (id) => document.getElementById(id);

const written = prepareEditor(part("document"), onEdit);
const variables = prepareEditor(part("variables"), onEdit);
const result = new Result({ place: part("result"), spoken: part("spoken"), text: part("text") });
const account = new Account(endpoint, onIdentity);
const socket = new Socket(socketAddress, () => account.token, onConnection);

let edits = memory.get("edits") ?? {};
let latest = memory.get("latest") ?? {};
let chosen = Math.min(memory.get("tab") ?? 0, examples.length - 1);
let running = null; // the AbortController of the run under way
let interrupted = null; // the stream that a lost socket broke off
let filterSchema = null;

const say = (text) => {
  part("status").textContent = text;
};
const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(2)} s`;
const counted = (number) => `${number} ${number === 1 ? "event" : "events"}`;

// ---- What is written

function open(index, focuses = false) {
  stop();
  chosen = index;
  memory.set("tab", index);
  const example = examples[index];
  const edit = edits[index] ?? { document: example.document, variables: JSON.stringify(example.variables, null, 2) };
  written.value = edit.document;
  variables.value = edit.variables;
  fillIn();
  part("about").textContent = example.about;
  part("request").setAttribute("aria-labelledby", `tab-${index}`);
  [...part("tabs").children].forEach((tab, position) => {
    const isChosen = position === index;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    if (isChosen && focuses) tab.focus();
  });
  listOperations();
  readVariables();
}

function onEdit() {
  keep();
  listOperations();
  readVariables();
}

function keep() {
  edits[chosen] = { document: written.value, variables: variables.value };
  memory.set("edits", edits);
}

/** An object, or null while it is not one; says why beside the editor. */
function readVariables() {
  let found = null;
  let problem = "";
  try {
    found = JSON.parse(variables.value.trim() || "{}");
    if (found === null || typeof found !== "object" || Array.isArray(found)) {
      found = null;
      problem = "must be a JSON object";
    }
  } catch (error) {
    problem = error.message;
  }
  part("variables-error").textContent = problem;
  part("variables").setAttribute("aria-invalid", String(problem !== ""));
  return found;
}

function writeVariables(changes) {
  variables.value = JSON.stringify({ ...readVariables(), ...changes }, null, 2);
  keep();
}

/** Puts the latest ids where an example has left room for them. */
function fillIn() {
  const found = readVariables();
  const empty = REMEMBERED.filter((name) => found?.[name] === "" && latest[name]);
  if (empty.length) writeVariables(Object.fromEntries(empty.map((name) => [name, latest[name]])));
}

function listOperations() {
  const found = operations(written.value);
  const steps = examples[chosen].steps ?? [];
  const choices = found.map(({ type, name }) => new Option(`${type} ${name}`.trim(), name));
  if (steps.length && steps.every((step) => found.some(({ name }) => name === step.operation))) {
    choices.unshift(new Option("All, in turn", IN_TURN));
  }
  const list = part("operation");
  const before = list.dataset.tab === String(chosen) ? list.value : "";
  list.replaceChildren(...choices);
  list.dataset.tab = chosen;
  if (choices.some(({ value }) => value === before)) list.value = before;
  list.hidden = choices.length < 2;
}

// ---- What runs

function plan(given) {
  const { value } = part("operation");
  if (value !== IN_TURN) return [{ operation: value }];
  return examples[chosen].steps.filter(({ unless }) => !unless || !given[unless]);
}

async function run() {
  stop();
  interrupted = null;
  await ready;
  const given = readVariables();
  if (!given) {
    say("The variables are not a JSON object");
    part("variables").focus();
    return;
  }
  result.clear();
  if (isNarrow.matches) part("answer").scrollIntoView();
  await whileRunning(async (signal) => {
    for (const step of plan(given)) {
      const payload = { query: written.value, operationName: step.operation || undefined, variables: { ...readVariables(), ...step.use } };
      if (!(await perform(step, payload, signal))) return;
    }
  });
}

async function whileRunning(work) {
  const controller = new AbortController();
  running = controller;
  part("stop").disabled = false;
  document.body.classList.add("running");
  try {
    await work(controller.signal);
  } catch (error) {
    if (running === controller) say(controller.signal.aborted ? "Stopped" : error.message);
  } finally {
    if (running === controller) {
      running = null;
      part("stop").disabled = true;
      document.body.classList.remove("running");
    }
  }
}

function stop() {
  running?.abort();
}

/** Runs one operation; whether the next may follow. */
async function perform(step, payload, signal) {
  const known = operations(payload.query);
  const { type, name } = known.find(({ name }) => name === step.operation) ?? { type: "query", name: "" };
  say(`Running ${name || "the operation"} …`);
  const entry = result.entry(name || type);
  if (type === "subscription") {
    result.quiet();
    return follow({ payload, entry, count: 0, seq: null, began: performance.now() }, signal);
  }
  const began = performance.now();
  const { status, answer } = await post(endpoint, account.token, payload, signal);
  const note = `${status} · ${Math.round(performance.now() - began)} ms`;
  entry.note(note);
  entry.answer(answer);
  say(`${name || type}: ${note}`);
  if (status === 401) askForSignIn();
  await adopt(answer.data);
  return take(step, answer);
}

/** A sign-in that succeeds in an answer counts for the page too. */
async function adopt(data) {
  for (const value of Object.values(data ?? {})) {
    if (typeof value?.accessToken === "string") await account.use(value.accessToken);
  }
}

function take(step, answer) {
  for (const [name, path] of Object.entries(step.take ?? {})) {
    const value = path.split(".").reduce((object, key) => object?.[key], answer.data);
    if (!value) {
      const [payload] = Object.values(answer.data ?? {});
      const [error] = [...(answer.errors ?? []), ...(payload?.errors ?? [])];
      say(`Ended at ${step.operation}: ${error?.message ?? `no ${name}`}`);
      return false;
    }
    writeVariables({ [name]: value });
    latest[name] = value;
    memory.set("latest", latest);
  }
  return true;
}

/** Follows a stream to its end; whether it came. */
async function follow(stream, signal) {
  const outcome = await socket
    .subscribe(stream.payload, (payload) => hear(stream, payload), signal)
    .catch(() => ({ kind: "lost" }));
  const tally = `${counted(stream.count)} · ${seconds(stream.began)}`;
  stream.entry.note(tally);
  if (outcome.kind === "error") stream.entry.answer({ errors: outcome.errors });
  if (outcome.kind === "lost") interrupted = stream;
  const verdicts = { complete: "Complete", error: "Failed", stopped: "Stopped", lost: "Connection lost" };
  say(`${verdicts[outcome.kind]} · ${tally}`);
  return outcome.kind === "complete";
}

function hear(stream, payload) {
  stream.count += 1;
  const [event, ...others] = Object.values(payload.data ?? {});
  stream.entry.event(payload.errors || others.length ? payload : event);
  stream.entry.note(counted(stream.count));
  if (stream.count === 1) say("Streaming …");
  if (Number.isInteger(event?.seq)) stream.seq = event.seq;
  if (typeof event?.text !== "string" || event.__typename === "ReasoningDelta") return;
  if (event.__typename === "GenerationSnapshot") result.quiet();
  result.speak(event.text);
}

async function reconnect() {
  const stream = interrupted;
  interrupted = null;
  if (stream && /\$after\b/.test(stream.payload.query)) {
    const after = stream.seq ?? stream.payload.variables.after;
    stream.payload = { ...stream.payload, variables: { ...stream.payload.variables, after } };
    await whileRunning((signal) => follow(stream, signal));
  } else {
    await socket.open().catch((error) => say(error.message));
  }
}

// ---- Who asks

function onIdentity({ name, token, isAnother }) {
  part("identity").textContent = name ? `${name} · ${token}` : "Not signed in";
  part("token-shown").textContent = name ? "Sent with every request, and kept in this tab only." : "Without a sign-in only a few fields answer.";
  if (!isAnother) return;
  // What one person made another cannot see.
  latest = {};
  memory.set("latest", latest);
  socket.close();
  for (const [index, edit] of Object.entries(edits)) {
    const forgotten = REMEMBERED.reduce((text, id) => text.replace(new RegExp(`("${id}"\\s*:\\s*)"[^"]*"`), '$1""'), edit.variables);
    edits[index] = { ...edit, variables: forgotten };
    if (Number(index) === chosen) variables.value = forgotten;
  }
  memory.set("edits", edits);
}

function onConnection(state, detail) {
  const words = { idle: "Socket not open", connecting: "Socket opening …", open: "Socket open", lost: "Socket lost" };
  const pill = part("connection");
  pill.dataset.state = state;
  pill.textContent = `${words[state]} ${detail}`.trim();
  part("reconnect").hidden = state !== "lost";
  if (detail.startsWith(FORBIDDEN)) askForSignIn();
}

function askForSignIn() {
  part("account").open = true;
  part("token-shown").textContent = "The sign-in does not hold any more. Sign in again:";
}

async function signing(work) {
  try {
    await work();
    say("Signed in");
  } catch (error) {
    say(`Not signed in: ${error.message}`);
  }
}

// ---- What there is

async function toggleSchema(isShown) {
  part("schema").hidden = !isShown;
  document.body.classList.toggle("with-schema", isShown);
  part("schema-toggle").setAttribute("aria-expanded", String(isShown));
  if (!isShown) {
    part("schema-toggle").focus();
    return;
  }
  part("filter").focus();
  if (!filterSchema) await loadSchema();
}

async function loadSchema() {
  const note = part("schema-note");
  note.textContent = "Reading …";
  try {
    await ready;
    const { answer } = await post(endpoint, account.token, { query: INTROSPECTION });
    if (!answer.data) throw new Error(answer.errors?.[0]?.message ?? "The server does not show its schema");
    filterSchema = showSchema(part("types"), answer.data.__schema, () => {
      part("filter").value = "";
      filterSchema("");
    });
    note.textContent = "";
  } catch (error) {
    note.textContent = error.message;
  }
}

// ---- Wiring

const on = (id, kind, handler) => part(id).addEventListener(kind, handler);

examples.forEach(({ title }, index) => {
  const tab = document.createElement("button");
  Object.assign(tab, { type: "button", role: "tab", id: `tab-${index}` });
  tab.setAttribute("role", "tab");
  tab.setAttribute("aria-controls", "request");
  tab.textContent = title;
  tab.addEventListener("click", () => open(index));
  part("tabs").append(tab);
});
on("tabs", "keydown", ({ key }) => {
  const moves = { ArrowRight: chosen + 1, ArrowLeft: chosen - 1, Home: 0, End: examples.length - 1 };
  if (key in moves) open((moves[key] + examples.length) % examples.length, true);
});
on("run", "click", run);
on("stop", "click", stop);
on("reset", "click", () => {
  delete edits[chosen];
  memory.set("edits", edits);
  open(chosen);
});
on("reconnect", "click", reconnect);
on("guest", "click", () => signing(() => account.signInAsGuest()));
on("sign-out", "click", () => {
  account.signOut();
  say("Signed out");
});
on("token-form", "submit", (event) => {
  event.preventDefault();
  const token = part("token").value.trim().replace(/^Bearer\s+/i, "");
  part("token").value = "";
  if (token) signing(() => account.use(token));
});
on("schema-toggle", "click", () => toggleSchema(part("schema").hidden));
on("schema-close", "click", () => toggleSchema(false));
on("filter", "input", ({ target }) => {
  if (!filterSchema) return;
  const count = filterSchema(target.value);
  part("schema-note").textContent = target.value ? `${count} ${count === 1 ? "type fits" : "types fit"}` : "";
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run();
  } else if (event.key === "Escape" && part("account").open) {
    part("account").open = false;
    part("account").querySelector("summary").focus();
  } else if (event.key === "Escape" && part("schema").contains(document.activeElement)) {
    toggleSchema(false);
  }
});
document.addEventListener("click", ({ target }) => {
  if (!part("account").contains(target)) part("account").open = false;
});
if (/Mac|iP(hone|ad)/.test(navigator.userAgent)) part("run").querySelector("kbd").textContent = "⌘ ↵";

const ready = signing(() => account.start());
open(chosen);
