// Relay: `npm run relay` compiles the documents; then node relay.mjs. The socket is lost on the way, and the rest is asked for.
import { createClient } from "graphql-ws";
import relay from "relay-runtime";
import WebSocket from "ws";
import follow from "./__generated__/relayDocumentsFollowSubscription.graphql.js";
import { base, socketUrl, start } from "./start.mjs";

const { Environment, Network, Observable, RecordSource, Store, requestSubscription } = relay;
const { token, id } = await start("Please count to 20");

const socket = createClient({
  url: socketUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: 0,
});
const environment = new Environment({
  store: new Store(new RecordSource()),
  network: Network.create(
    async ({ text: query }, variables) => {
      const headers = { "content-type": "application/json", authorization: `Bearer ${token}` };
      return (await fetch(`${base}/graphql`, { method: "POST", headers, body: JSON.stringify({ query, variables }) })).json();
    },
    ({ text: query }, variables) => Observable.create((sink) => socket.subscribe({ query, variables }, sink)),
  ),
});

/** Follows past event `after` until the end or the loss of the socket; resolves with the last event seen. */
function watch(after, lossAt = Infinity) {
  return new Promise((resolve) => {
    requestSubscription(environment, {
      subscription: follow,
      variables: { id, after },
      onNext({ generation }) {
        process.stdout.write(generation.text ?? "");
        after = generation.seq;
        if (after >= lossAt) socket.terminate();
      },
      onError: () => resolve(after),
      onCompleted: () => resolve(after),
    });
  });
}

const seen = await watch(0, 5);
process.stdout.write(`[socket lost after event ${seen}; coming back] `);
console.log(`\nThe last event was number ${await watch(seen)}.`);
await socket.dispose();
