// Apollo Client: subscriptions over a WebSocket, or over plain HTTP in parts. node apollo.mjs [websocket | multipart]
import { ApolloClient, HttpLink, InMemoryCache, gql } from "@apollo/client";
import { GraphQLWsLink } from "@apollo/client/link/subscriptions";
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { base, socketUrl, start } from "./start.mjs";

const transport = process.argv[2] ?? "websocket";
const { token, id } = await start("Please count to 20");

const socket = createClient({
  url: socketUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: 0,
});
const links = {
  websocket: () => new GraphQLWsLink(socket),
  // It asks for `multipart/mixed;subscriptionSpec=1.0` by itself where the operation is a subscription.
  multipart: () => new HttpLink({ uri: `${base}/graphql`, headers: { authorization: `Bearer ${token}` } }),
};
const client = new ApolloClient({ link: links[transport](), cache: new InMemoryCache() });

const query = gql`
  subscription Follow($id: ID!, $after: Int) {
    generation(id: $id, after: $after) { seq ... on TextDelta { text } }
  }
`;

/** Follows past event `after`, as far as event `until`; resolves with the number of the last event seen. */
function follow(after, until = Infinity) {
  return new Promise((resolve, reject) => {
    // Events are told once: there is nothing in them for a cache.
    const events = client.subscribe({ query, variables: { id, after }, fetchPolicy: "no-cache" });
    const subscription = events.subscribe({
      next({ data, error }) {
        if (error) return reject(error);
        process.stdout.write(data.generation.text ?? "");
        after = data.generation.seq;
        if (after >= until) {
          subscription.unsubscribe();
          resolve(after);
        }
      },
      error: reject,
      complete: () => resolve(after),
    });
  });
}

const seen = await follow(0, 5);
process.stdout.write(`[left after event ${seen}; coming back] `);
console.log(`\nThe last event was number ${await follow(seen)}.`);
client.stop();
await socket.dispose();
