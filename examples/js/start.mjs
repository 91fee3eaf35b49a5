// What every example begins with: sign in as a guest, open a conversation, send a message. The answer comes at once and names
// the generation; what it says is followed by subscription, from any of its events and as often as you like.

export const base = process.env.LOQUENT ?? "http://localhost:8000";
export const socketUrl = `${base.replace(/^http/, "ws")}/graphql`;

export async function start(text) {
  const { guestLogin } = await ask("mutation { guestLogin { accessToken } }");
  const token = guestLogin.accessToken;
  const { createConversation } = await ask("mutation { createConversation(input: {}) { conversation { id } } }", {}, token);
  const { sendMessage } = await ask(
    `mutation Send($id: ID!, $text: String!) {
      sendMessage(input: { conversationId: $id, content: [{ text: $text }], generate: {} }) {
        generation { id }
        errors { message }
      }
    }`,
    { id: createConversation.conversation.id, text },
    token,
  );
  if (sendMessage.errors.length) throw new Error(sendMessage.errors[0].message);
  return { token, id: sendMessage.generation.id };
}

async function ask(query, variables = {}, token = null) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`${base}/graphql`, { method: "POST", headers, body: JSON.stringify({ query, variables }) });
  const { data, errors } = await answer.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}
