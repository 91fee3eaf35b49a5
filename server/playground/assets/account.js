// Who this page is for the graph: a token, kept for this tab of the browser only.

import { post } from "./transport.js";

const VIEWER = "query Viewer { viewer { id role displayName } }";
const GUEST = "mutation Guest { guestLogin { accessToken errors { message } } }";

/** Storage for this tab; a browser that refuses it only forgets. */
export const memory = {
  get(name) {
    try {
      return JSON.parse(sessionStorage.getItem(`loquent.${name}`));
    } catch {
      return null;
    }
  },
  set(name, value) {
    try {
      sessionStorage.setItem(`loquent.${name}`, JSON.stringify(value));
    } catch {
      // Nothing depends on it.
    }
  },
};

const shortened = (token) => (token.length > 20 ? `${token.slice(0, 6)}…${token.slice(-6)}` : "…");

export class Account {
  #url;
  #onChange;
  token = null;

  /** `onChange({name, token, isAnother})` hears who it is now, `name` empty when nobody, and whether that is another than before. */
  constructor(url, onChange) {
    this.#url = url;
    this.#onChange = onChange;
  }

  /** With the token of before where it still holds, else as a new guest. Throws with a message for people. */
  async start() {
    const token = memory.get("token");
    const viewer = token && (await this.#viewer(token));
    if (viewer) this.#become(token, viewer, false);
    else await this.signInAsGuest();
  }

  async signInAsGuest() {
    const { answer } = await post(this.#url, null, { query: GUEST });
    const payload = answer.data?.guestLogin;
    const [error] = [...(payload?.errors ?? []), ...(answer.errors ?? [])];
    if (!payload?.accessToken) throw new Error(error?.message ?? "the server gave no token");
    await this.use(payload.accessToken);
  }

  /** Who it was before stays, where this token does not hold. */
  async use(token) {
    const viewer = await this.#viewer(token);
    if (!viewer) throw new Error("this token does not hold");
    this.#become(token, viewer, true);
  }

  signOut() {
    this.#become(null, null, true);
  }

  #become(token, viewer, isAnother) {
    this.token = token;
    memory.set("token", token);
    const name = viewer ? viewer.displayName || viewer.role.toLowerCase() : "";
    this.#onChange({ name, token: token ? shortened(token) : "", isAnother });
  }

  /** Null where the token does not hold. */
  async #viewer(token) {
    const { status, answer } = await post(this.#url, token, { query: VIEWER });
    if (status >= 500) throw new Error(answer.errors?.[0]?.message ?? `the server answered ${status}`);
    return answer.data?.viewer ?? null;
  }
}
