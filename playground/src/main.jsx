// GraphiQL with this server's examples in tabs, signed in as a guest. The account and the examples are those of the small page.

import "./surroundings.js";
import { GraphiQL, HISTORY_PLUGIN } from "graphiql";
import { createRoot } from "react-dom/client";
import { Account, memory } from "../../server/playground/assets/account.js";
import { examples } from "../../server/playground/assets/examples.js";
import { createFetcher } from "./fetcher.js";
import { signInPlugin } from "./sign-in.jsx";
import "graphiql/style.css";
import "./page.css";

const endpoint = new URL("../graphql", import.meta.url);
const ENDED = "The sign-in has ended. Sign in again at the left.";

/** Kept for this tab of the browser only, because it holds a token. */
const storage = {
  getItem: (name) => memory.get(`graphiql.${name}`),
  setItem: (name, value) => memory.set(`graphiql.${name}`, value),
  removeItem: (name) => sessionStorage.removeItem(`loquent.graphiql.${name}`),
  clear: () => sessionStorage.clear(),
  get length() {
    return sessionStorage.length;
  },
};

const headersFor = (token) => (token ? JSON.stringify({ Authorization: `Bearer ${token}` }, null, 2) : "");

const IN_TURN = "Run the operations one after the other: the variables that they lack come from the answers before.";

function tabs(headers) {
  return examples.map(({ title, about, document, variables, steps }) => ({
    query: `# ${title}\n#\n${comment(about)}${steps ? comment(IN_TURN) : ""}\n${document}`,
    variables: Object.keys(variables).length ? JSON.stringify(variables, null, 2) : "",
    headers,
  }));
}

function comment(text) {
  const lines = [""];
  for (const word of text.split(" ")) {
    if (lines.at(-1).length + word.length > 48) lines.push("");
    lines[lines.length - 1] += ` ${word}`;
  }
  return lines.map((line) => `#${line}\n`).join("");
}

/** The tabs of before speak with the token of now. */
function renew(before, now) {
  for (const name of ["graphiql:tabState", "graphiql:headers"]) {
    const kept = storage.getItem(name);
    if (before && kept) storage.setItem(name, kept.replaceAll(before, now ?? ""));
  }
}

async function start() {
  let notice = "";
  const before = memory.get("token");
  const account = new Account(endpoint, () => {});
  await account.start().catch((error) => {
    notice = `Not signed in: ${error.message}`;
  });
  if (account.token !== before) renew(before, account.token);
  const fetcher = createFetcher(endpoint, () => (notice = ENDED));
  const plugin = signInPlugin(endpoint, account, (token) => {
    renew(account.token, token);
    location.reload();
  });
  const headers = headersFor(account.token);
  createRoot(document.getElementById("playground")).render(
    <GraphiQL
      fetcher={fetcher}
      storage={storage}
      shouldPersistHeaders
      showPersistHeadersSettings={false}
      defaultTabs={tabs(headers)}
      defaultHeaders={headers}
      defaultEditorToolsVisibility="variables"
      plugins={[HISTORY_PLUGIN, plugin]}
      inputValueDeprecation
    >
      <GraphiQL.Logo>
        <a className="name" href="./" title="To the console">
          Loquent
        </a>
      </GraphiQL.Logo>
      {notice && (
        <GraphiQL.Footer>
          <p role="status">{notice}</p>
        </GraphiQL.Footer>
      )}
    </GraphiQL>,
  );
}

start();
