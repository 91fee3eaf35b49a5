// Queries and mutations over HTTP.

const UNSIGNED = "UNAUTHENTICATED";

/** What the server refused. `code` is for programs; `seconds` says when to try again, where that is known. */
export class GraphError extends Error {
  constructor(message, code = "", seconds = 0) {
    super(message);
    this.code = code;
    this.seconds = seconds;
  }
}

/** Sends one operation; answers what the server said. Throws GraphError where it said nothing that can be read. */
export async function post(url, token, payload) {
  let response;
  try {
    response = await fetch(url, {
      method: "POST",
      headers: {
        Accept: "application/graphql-response+json, application/json",
        "Content-Type": "application/json",
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      body: JSON.stringify(payload),
      cache: "no-store",
      credentials: "omit",
    });
  } catch {
    throw new GraphError("The server cannot be reached", "UNREACHABLE");
  }
  try {
    return { ...(await response.json()), wait: Number(response.headers.get("Retry-After")) || 0 };
  } catch {
    throw new GraphError(`The server answered ${response.status}`, "UNREADABLE");
  }
}

/** The first thing that is wrong with an answer, if anything is: with the request, or with what was put in. */
export function problemOf(answer, field = null) {
  const error = answer.errors?.[0] ?? answer.data?.[field]?.errors?.[0];
  if (!error) return null;
  const code = error.extensions?.code ?? error.code ?? "";
  const again = answer.wait ? ` Try again in ${answer.wait} s.` : "";
  return new GraphError(sentence(error.message) + again, code, answer.wait);
}

const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);

export class Graph {
  #url;
  #session;

  constructor(url, session) {
    this.#url = url;
    this.#session = session;
  }

  /** The data of a query. Throws GraphError. */
  async read(query, variables = {}) {
    const answer = await this.#send({ query, variables });
    const problem = problemOf(answer);
    if (problem) throw problem;
    return answer.data;
  }

  /** The payload of a mutation's only field. Throws GraphError, also for what the caller can mend. */
  async write(field, query, input) {
    const answer = await this.#send({ query, variables: { input } });
    const problem = problemOf(answer, field);
    if (problem) throw problem;
    return answer.data[field];
  }

  async #send(payload) {
    const token = await this.#session.token();
    const answer = await post(this.#url, token, payload);
    if (answer.errors?.[0]?.extensions?.code !== UNSIGNED) return answer;
    // It may have ended early; once more with a new one, and no more than once.
    return post(this.#url, await this.#session.renewed(token), payload);
  }
}
