// What changes in the account, on whatever device: told to the list and to the conversation that is open.

import { FEED } from "./documents.js";

const LATER = 1000;

export class Feed {
  #app;
  #cursor = null;
  #stop = () => {};

  /** `app` hears `onUpserted(conversation)`, `onDeleted(id)`, `onItem(conversationId, id, node)` and `onMissed()`. */
  constructor(app) {
    this.#app = app;
  }

  start() {
    this.#stop();
    this.#cursor = null;
    this.#follow();
  }

  #follow() {
    this.#stop = this.#app.socket.follow({
      query: FEED,
      variables: () => ({ after: this.#cursor }),
      next: ({ data }) => data?.conversationEvents && this.#hear(data.conversationEvents),
      over: (errors) => this.#over(errors),
      // Without a place to go on from, what happened meanwhile is not told.
      again: () => this.#cursor || this.#app.onMissed(),
    });
  }

  #over(errors) {
    if (errors) this.#cursor = null;
    setTimeout(() => {
      if (!this.#app.session.user) return;
      this.#follow();
      if (errors) this.#app.onMissed();
    }, LATER);
  }

  #hear(event) {
    this.#cursor = event.cursor;
    const { conversationId: id } = event;
    if (event.__typename === "ConversationUpserted") this.#app.onUpserted(event.conversation);
    else if (event.__typename === "ConversationDeleted") this.#app.onDeleted(id);
    else if (event.__typename === "ItemUpserted") this.#app.onItem(id, event.edge.node.id, event.edge.node);
    else if (event.__typename === "ItemDeleted") this.#app.onItem(id, event.itemId, null);
  }
}
