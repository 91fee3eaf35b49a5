// graphql-ws: follow a generation, lose the socket, and come back for exactly the rest.
import { createClient } from "graphql-ws";
import WebSocket from "ws";
import { socketUrl, start } from "./start.mjs";

const { token, id } = await start("Please count to 20");

const client = createClient({
  url: socketUrl,
  webSocketImpl: WebSocket,
  connectionParams: { Authorization: `Bearer ${token}` },
  retryAttempts: 10,
  shouldRetry: () => true,
});

// The client sends these variables again when it comes back, so `after` only has to be kept up to date.
const variables = { id, after: 0 };
const query = `subscription Follow($id: ID!, $after: Int) {
  generation(id: $id, after: $after) { seq ... on TextDelta { text } }
}`;

for await (const { data, errors } of client.iterate({ query, variables })) {
  if (errors) throw new Error(errors[0].message);
  process.stdout.write(data.generation.text ?? "");
  variables.after = data.generation.seq;
  if (data.generation.seq === 5) {
    process.stdout.write("[socket lost after event 5; coming back] ");
    client.terminate();
  }
}
console.log(`\nThe last event was number ${variables.after}.`);
await client.dispose();
