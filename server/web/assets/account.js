// Signing in: the card that a stranger meets, and the dialog of somebody who has come already.

import { button, h, part, tell } from "./dom.js";
import { open } from "./dialogs.js";

const WORDS = {
  login: { title: "Sign in", submit: "Sign in" },
  register: { title: "Make an account", submit: "Make the account" },
  upgradeGuest: { title: "Keep what you have", submit: "Make the account" },
};

/** A form for one way to sign in; `onDone` follows its success. */
function form(session, kind, onDone) {
  const problem = h("p", { class: "problem", role: "alert" });
  const field = (label, name, properties) => h("label", {}, label, h("input", { name, ...properties }));
  const isNew = kind !== "login";
  const fields = [
    isNew && field("Name (as you like to be called)", "displayName", { autocomplete: "nickname", maxlength: "100" }),
    field("E-mail", "email", { type: "email", autocomplete: "username", required: true }),
    field("Password", "password", { type: "password", autocomplete: isNew ? "new-password" : "current-password", required: true, minlength: isNew ? "8" : null }),
  ];
  const submit = h("button", { class: "primary wide", text: WORDS[kind].submit });
  const made = h("form", {}, ...fields, problem, submit);
  made.addEventListener("submit", async (event) => {
    event.preventDefault();
    const given = Object.fromEntries([...new FormData(made)].filter(([, value]) => value));
    await busy(submit, problem, () => session.signIn(kind, given), onDone);
  });
  return made;
}

async function busy(control, problem, work, onDone) {
  control.disabled = true;
  problem.textContent = "";
  try {
    await work();
    onDone();
  } catch (error) {
    problem.textContent = error.message;
  }
  control.disabled = false;
}

/** The card in the middle of an empty page. */
export function welcome(session, notice) {
  const place = part("welcome-card");
  const problem = h("p", { class: "problem", role: "alert" });
  const enter = () => {};
  const guest = button("Begin as a guest", () => busy(guest, problem, () => session.signIn("guestLogin"), enter), { class: "primary wide" });
  const choices = h("div", { class: "choices" });
  const choose = (kind) => {
    const back = button("Back", () => welcome(session, ""), { class: "plain wide" });
    const shown = form(session, kind, enter);
    choices.replaceChildren(h("h2", { text: WORDS[kind].title }), shown, back);
    shown.querySelector("input").focus();
  };
  const others = h("div", { class: "row pair" });
  others.append(button("Sign in", () => choose("login")), button("New account", () => choose("register")));
  choices.append(guest, problem, others);
  place.replaceChildren(
    h("span", { class: "mark big", "aria-hidden": "true" }),
    h("h1", { text: "Loquent" }),
    h("p", { class: "quiet", text: notice || "Talk with the models of this server. As a guest you can begin at once, and keep everything when you make an account later." }),
    choices,
  );
}

/** What the button at the foot of the list opens. */
export function account(session) {
  const { user } = session;
  const isGuest = user.role === "GUEST";
  const content = [h("p", { text: isGuest ? "You are a guest of this browser. An account lets you in from everywhere; all you have stays with you." : `You are signed in as ${user.email ?? user.displayName}.` })];
  if (isGuest) content.push(form(session, "upgradeGuest", () => {
    close();
    tell("The account is yours");
  })); // prettier-ignore
  const leave = button("Sign out", () => {
    close();
    session.signOut();
  }, { class: isGuest ? "danger wide" : "wide" }); // prettier-ignore
  content.push(leave);
  if (isGuest) content.push(h("p", { class: "quiet", text: "Nobody can come back as a guest who has signed out." }));
  const close = open(isGuest ? WORDS.upgradeGuest.title : "Account", content);
}
