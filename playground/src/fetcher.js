// Queries and mutations over HTTP, subscriptions over one socket a run. Ids that the variables leave empty are filled in from
// the answers before, so that the worked examples run one after the other.

import { createClient } from "graphql-ws";
import { post } from "../../server/playground/assets/transport.js";

const REMEMBERED = { Conversation: "conversationId", Generation: "generationId" };

export function createFetcher(endpoint) {
  const latest = {};
  const address = new URL(endpoint);
  address.protocol = endpoint.protocol.replace("http", "ws");

  return function fetcher({ query, variables, operationName }, { headers = {}, documentAST } = {}) {
    const payload = { query, variables: filled(variables, latest), operationName };
    const token = tokenOf(headers);
    if (isSubscription(documentAST, operationName)) return follow(address, token, payload);
    return post(endpoint, token, payload).then(({ answer }) => {
      remember(answer.data, latest);
      return answer;
    });
  };
}

function tokenOf(headers) {
  const value = Object.entries(headers).find(([name]) => name.toLowerCase() === "authorization")?.[1] ?? "";
  return value.replace(/^Bearer\s+/i, "");
}

function isSubscription(document, operationName) {
  const operations = document?.definitions.filter(({ kind }) => kind === "OperationDefinition") ?? [];
  const chosen = operations.find(({ name }) => name?.value === operationName) ?? operations[0];
  return chosen?.operation === "subscription";
}

function filled(variables, latest) {
  const found = { ...variables };
  for (const [name, value] of Object.entries(latest)) if (!found[name]) found[name] = value;
  return found;
}

function remember(data, latest) {
  for (const payload of Object.values(data ?? {})) {
    const runs = payload?.replies?.map(({ generation }) => generation.id) ?? [];
    if (runs.length > 1) [latest.firstId, latest.secondId] = runs;
    for (const [type, name] of Object.entries(REMEMBERED)) {
      const id = payload?.[type.toLowerCase()]?.id;
      if (id) latest[name] = id;
    }
  }
}

/** As the editor likes it: something with `subscribe`, whose last word is one call of `complete` or `error`. */
function follow(address, token, payload) {
  return {
    subscribe(sink) {
      const client = createClient({
        url: address.href,
        connectionParams: token ? { Authorization: `Bearer ${token}` } : {},
        retryAttempts: 0,
      });
      const told = { events: 0, text: "" };
      const stop = client.subscribe(payload, {
        next: (answer) => sink.next(withStory(answer, told)),
        complete: () => sink.complete(),
        error: (cause) => sink.error(cause instanceof CloseEvent ? new Error(`The socket closed: ${cause.code} ${cause.reason}`) : cause),
      });
      return {
        unsubscribe: () => {
          stop();
          client.dispose();
        },
      };
    },
  };
}

/** The editor shows the latest event alone; what came before it is told beside it, as far as it was text. */
function withStory(answer, told) {
  const [event] = Object.values(answer.data ?? {});
  told.events += 1;
  if (event?.__typename === "GenerationSnapshot") told.text = "";
  if (event?.__typename !== "ReasoningDelta" && typeof event?.text === "string") told.text += event.text;
  return { ...answer, extensions: { ...answer.extensions, playground: { ...told } } };
}
