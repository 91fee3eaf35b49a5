// A pane of the editor: who asks, and how to become somebody else.

import { useState } from "react";
import { post } from "../../server/playground/assets/transport.js";

const LOGIN = `mutation Login($input: LoginInput!) {
  login(input: $input) { accessToken errors { message } }
}`;

function Icon() {
  return (
    <svg viewBox="0 0 24 24" fill="none" stroke="currentColor" strokeWidth="1.6" aria-hidden="true">
      <circle cx="12" cy="8" r="4" />
      <path d="M4 21c0-4.4 3.6-7 8-7s8 2.6 8 7" strokeLinecap="round" />
    </svg>
  );
}

async function login(endpoint, email, password) {
  const { answer } = await post(endpoint, null, { query: LOGIN, variables: { input: { email, password } } });
  const payload = answer.data?.login;
  const [error] = [...(payload?.errors ?? []), ...(answer.errors ?? [])];
  if (!payload?.accessToken) throw new Error(error?.message ?? "the server gave no token");
  return payload.accessToken;
}

/** `onToken(token)` hears whose page it is now. */
export function signInPlugin(endpoint, account, onToken) {
  function Pane() {
    const [problem, setProblem] = useState("");
    const attempt = (work) =>
      work().then(onToken, (error) => setProblem(`Not signed in: ${error.message}`));
    const submit = (event) => {
      event.preventDefault();
      const fields = new FormData(event.currentTarget);
      attempt(() => login(endpoint, fields.get("email"), fields.get("password")));
    };
    const asGuest = async () => {
      const before = account.token;
      await account.signInAsGuest();
      const now = account.token;
      account.token = before;
      return now;
    };
    return (
      <section className="sign-in">
        <h2>Sign in</h2>
        <p>The token of the sign-in stands under Headers in each tab, and stays in this tab of the browser.</p>
        <form onSubmit={submit}>
          <label>
            E-mail
            <input name="email" type="email" autoComplete="username" required />
          </label>
          <label>
            Password
            <input name="password" type="password" autoComplete="current-password" required />
          </label>
          <button className="graphiql-button">Sign in</button>
        </form>
        <button type="button" className="graphiql-button" onClick={() => attempt(asGuest)}>
          Become a new guest
        </button>
        <p role="alert">{problem}</p>
      </section>
    );
  }
  return { title: "Sign in", icon: Icon, content: Pane };
}
