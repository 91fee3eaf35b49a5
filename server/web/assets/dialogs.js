// Whatever asks something of its own: the browser's dialog keeps the focus within, and Escape leaves.

import { ACTIVATE, DELETE_BRANCH, REVOKE, SHARE, SHARES, TOOLS } from "./documents.js";
import { button, copy, h, iconButton, part, tell } from "./dom.js";

/** Opens a dialog; answers what closes it. `onClose` hears of its end, whoever closed it. */
export function open(title, content, onClose = () => {}) {
  const place = part("dialog");
  const close = () => place.close();
  const head = h("header", {}, h("h2", { id: "dialog-title", text: title }), iconButton("close", "Close", close));
  place.replaceChildren(head, ...content);
  place.addEventListener("close", onClose, { once: true });
  if (!place.open) place.showModal();
  place.querySelector("[autofocus], input, .primary")?.focus();
  return close;
}

/** Whether a person agrees. */
export function confirm(title, text, word) {
  return new Promise((resolve) => {
    let isAgreed = false;
    const agree = button(word, () => {
      isAgreed = true;
      close();
    }, { class: "danger", autofocus: true }); // prettier-ignore
    const row = h("div", { class: "row end" }, button("Cancel", () => close()), agree);
    const close = open(title, [h("p", { text }), row], () => resolve(isAgreed));
  });
}

/** What a person types in; null when they leave. */
export function ask(title, label, value) {
  return new Promise((resolve) => {
    let answer = null;
    const field = h("input", { maxlength: "256", autocomplete: "off" });
    field.value = value;
    const form = h("form", { on: { submit: (event) => {
      event.preventDefault();
      answer = field.value.trim();
      close();
    } } }, h("label", {}, label, field), h("div", { class: "row end" }, h("button", { class: "primary", text: "Save" }))); // prettier-ignore
    const close = open(title, [form], () => resolve(answer));
    field.select();
  });
}

export async function share(app, conversation) {
  const list = h("ul", { class: "plain-list" });
  const make = button("Make a link", () => made(), { class: "primary" });
  const about = "Whoever has the link reads this conversation, and sees it grow. You can take it back at any time.";
  open("Share", [h("p", { text: about }), list, h("div", { class: "row end" }, make)]);

  async function draw() {
    const data = await app.attempt(() => app.graph.read(SHARES, { id: conversation.id }));
    const live = data?.conversation?.shares.filter(({ revokedAt }) => !revokedAt) ?? [];
    list.replaceChildren(...live.map(row));
  }
  function row({ id, path, viewCount }) {
    const address = new URL(path, location.href).href;
    const field = h("input", { readonly: true, "aria-label": "Link" });
    field.readOnly = true;
    field.value = address;
    const views = viewCount === 1 ? "1 view" : `${viewCount} views`;
    const away = iconButton("trash", "Take the link back", () => revoke(id));
    return h("li", {}, field, h("span", { class: "quiet", text: views }), iconButton("copy", "Copy the link", () => copy(address)), away);
  }
  async function made() {
    make.disabled = true;
    const payload = await app.attempt(() => app.graph.write("shareConversation", SHARE, { conversationId: conversation.id }));
    make.disabled = false;
    if (!payload) return;
    await draw();
    list.querySelector("input")?.select();
  }
  async function revoke(id) {
    if (await app.attempt(() => app.graph.write("revokeShare", REVOKE, { id }))) {
      tell("The link leads nowhere any more");
      await draw();
    }
  }
  await draw();
}

export function branches(app, conversation) {
  const turn = async (field, query, name) => {
    const payload = await app.attempt(() => app.graph.write(field, query, { conversationId: conversation.id, name }));
    if (!payload) return;
    close();
    await app.reload();
  };
  const row = ({ name, isActive, itemCount, createdAt }) => {
    const when = new Date(createdAt).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const count = itemCount === 1 ? "1 message" : `${itemCount} messages`;
    const show = button(isActive ? "Shown" : "Show", () => turn("activateBranch", ACTIVATE, name), { class: "small", disabled: isActive });
    const away = iconButton("trash", `Delete ${name}`, () => turn("deleteBranch", DELETE_BRANCH, name), { disabled: isActive || name === "MAIN" });
    const about = h("span", { class: "grow" }, h("strong", { text: name }), h("span", { class: "quiet", text: `${count} · ${when}` }));
    return h("li", { "aria-current": isActive ? "true" : null }, about, show, away);
  };
  const about = "Every edit and every other answer keeps what was there before on a branch of its own.";
  const close = open("Branches", [h("p", { text: about }), h("ul", { class: "plain-list" }, ...conversation.branches.map(row))]);
}

/** Which tools a model may use; answers the names that are chosen in the end. */
export async function tools(app, chosen) {
  const data = await app.attempt(() => app.graph.read(TOOLS));
  const offered = data?.tools.edges.map(({ node }) => node).filter(({ isEnabled }) => isEnabled) ?? [];
  // One that is gone is not asked for any more.
  if (data) chosen = chosen.filter((name) => offered.some((tool) => tool.name === name));
  return new Promise((resolve) => {
    const row = ({ name, title, description }) => {
      const box = h("input", { type: "checkbox", value: name, checked: chosen.includes(name) });
      return h("li", {}, h("label", { class: "choice" }, box, h("span", {}, h("strong", { text: title || name }), h("span", { class: "quiet", text: description }))));
    };
    const list = h("ul", { class: "plain-list" }, ...offered.map(row));
    const about = offered.length ? "The model may call what is marked while it answers." : "This server has no tools.";
    const done = button("Done", () => close(), { class: "primary" });
    const close = open("Tools", [h("p", { text: about }), list, h("div", { class: "row end" }, done)], () => {
      resolve(data ? [...list.querySelectorAll(":checked")].map(({ value }) => value) : chosen);
    });
  });
}
