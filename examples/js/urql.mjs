// urql: subscriptions over graphql-ws; the socket is lost on the way, and the rest is asked for.
import { Client, fetchExchange, gql, subscriptionExchange } from "@urql/core";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { base, socketUrl, start } from "./start.mjs";

const { token, id } = await start("Please count to 20");

const socket = createClient({
  url: socketUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: 0,
});
const client = new Client({
  url: `${base}/graphql`,
  preferGetMethod: false,
  fetchOptions: { headers: { authorization: `Bearer ${token}` } },
  exchanges: [
    fetchExchange,
    subscriptionExchange({
      forwardSubscription: ({ query, variables }) => ({
        subscribe: (sink) => ({ unsubscribe: socket.subscribe({ query, variables }, sink) }),
      }),
    }),
  ],
});

const query = gql`
  subscription Follow($id: ID!, $after: Int) {
    generation(id: $id, after: $after) { seq ... on TextDelta { text } }
  }
`;

/** Follows past event `after` until the end or the loss of the socket; resolves with the last event seen. */
function follow(after, lossAt = Infinity) {
  return new Promise((resolve) => {
    const { unsubscribe } = client.subscription(query, { id, after }).subscribe(({ data, error, hasNext }) => {
      if (error || !data) return resolve(after);
      process.stdout.write(data.generation.text ?? "");
      after = data.generation.seq;
      if (after >= lossAt) {
        unsubscribe();
        socket.terminate();
        resolve(after);
      }
      if (!hasNext) resolve(after);
    });
  });
}

const seen = await follow(0, 5);
process.stdout.write(`[socket lost after event ${seen}; coming back] `);
console.log(`\nThe last event was number ${await follow(seen)}.`);
await socket.dispose();
