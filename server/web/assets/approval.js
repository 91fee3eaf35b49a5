// A call that waits for a person's leave: what is asked, and the answer to it.

import { readable } from "./call.js";
import { DECIDE } from "./documents.js";
import { button, h } from "./dom.js";
import { say } from "./speech.js";

/** Whoever decides first, here or on another device, decides; the stream tells when it is done. */
export function approval(app, { id, tool, given }) {
  const always = h("input", { type: "checkbox" });
  const decide = async (decision) => {
    approve.disabled = reject.disabled = true;
    const input = { id, decision, remember: always.checked && decision === "APPROVE" };
    if (!(await app.attempt(() => app.graph.write("decideApproval", DECIDE, input)))) approve.disabled = reject.disabled = false;
  };
  const approve = button("Approve", () => decide("APPROVE"), { class: "primary" }, "check");
  const reject = button("Reject", () => decide("REJECT"), {}, "close");
  say(`The model asks for leave to run ${tool}.`);
  return h(
    "section",
    { class: "approval", "aria-label": `Leave to run ${tool}`, "data-id": id },
    h("p", {}, "The model would like to run ", h("strong", { text: tool }), " with this:"),
    h("pre", { tabindex: "0" }, h("code", { text: readable(given) })),
    h("label", { class: "choice" }, always, "Do not ask me about this tool again"),
    h("div", { class: "row end" }, reject, approve),
  );
}
