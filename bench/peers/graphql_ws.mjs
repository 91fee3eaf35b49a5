// The reference implementation of graphql-transport-ws with as little round it as there can be: no sign-in, no log, no
// accounts. `node graphql_ws.mjs PORT`; the path of a socket says how it sends, as bench/wire.py has it.
import { createServer } from 'node:http';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';

const TOKENS = 500;
const WORD = ' word';

const schema = buildSchema(`
  interface GenerationEvent { seq: Int! }
  type TextDelta implements GenerationEvent { seq: Int! text: String! }
  type Query { nothing: Boolean }
  type Subscription { generation(id: ID!): GenerationEvent! }
`);

const nextTurn = () => new Promise((resolve) => setImmediate(resolve));
const told = (seq) => ({ generation: { __typename: 'TextDelta', seq, text: WORD } });

async function* paced() {
  for (let seq = 1; seq <= TOKENS; seq++) {
    // As when each token comes from a network: it has its own turn of the loop.
    await nextTurn();
    yield told(seq);
  }
}

async function* burst() {
  for (let seq = 1; seq <= TOKENS; seq++) yield told(seq);
}

// An iterator of its own, not a generator: one that waits for ever could never be ended.
function silent() {
  let end;
  const over = new Promise((resolve) => (end = () => resolve({ done: true, value: undefined })));
  return {
    next: () => over,
    return: () => (end(), over),
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

const sources = { '/paced': paced, '/burst': burst, '/silent': silent };

const server = createServer((request, response) => response.end('{}'));
useServer(
  {
    schema,
    context: (connection) => connection.extra.request.url,
    roots: { subscription: { generation: (_, path) => sources[path]() } },
  },
  new WebSocketServer({ server }),
);
server.listen(Number(process.argv[2]), '127.0.0.1', 4096);
