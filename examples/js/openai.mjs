// The OpenAI SDK, unmodified: a streamed answer, which an idempotency key lets you ask for again from its first word.
import { randomUUID } from "node:crypto";
import OpenAI from "openai";

const base = process.env.LOQUENT ?? "http://localhost:8000";
const guest = await fetch(`${base}/llm/auth/guest-login`, { method: "POST" });
const { access_token: apiKey } = await guest.json();
const client = new OpenAI({ baseURL: `${base}/v1`, apiKey });

const question = { model: "demo", stream: true, messages: [{ role: "user", content: "Please count to 20" }] };
const headers = { "Idempotency-Key": randomUUID() };

/** What is said, as far as `most` chunks; leaving the loop closes the connection. */
async function listen(most = Infinity) {
  let text = "";
  let count = 0;
  for await (const chunk of await client.chat.completions.create(question, { headers })) {
    text += chunk.choices[0]?.delta.content ?? "";
    if (++count >= most) break;
  }
  return text;
}

const beginning = await listen(5);
console.log(`${beginning}[connection lost; asking again under the same key]`);
const whole = await listen();
if (!whole.startsWith(beginning)) throw new Error("this is another answer");
console.log(whole);
