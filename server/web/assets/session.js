// Who is signed in, in all tabs of this browser. Access tokens are renewed before they end; a refresh token works once, so that
// only one tab at a time may use it.

import { kept } from "./dom.js";
import { GraphError, post, problemOf } from "./graph.js";

const NAME = "session";
const EARLY = 60_000;
const FIELDS = "accessToken refreshToken expiresIn user { id role displayName email } errors { message code path }";
const SIGN_INS = {
  guestLogin: `mutation GuestLogin { guestLogin { ${FIELDS} } }`,
  login: `mutation Login($input: LoginInput!) { login(input: $input) { ${FIELDS} } }`,
  register: `mutation Register($input: RegisterInput!) { register(input: $input) { ${FIELDS} } }`,
  upgradeGuest: `mutation Upgrade($input: RegisterInput!) { upgradeGuest(input: $input) { ${FIELDS} } }`,
  refreshToken: `mutation Refresh($input: RefreshTokenInput!) { refreshToken(input: $input) { ${FIELDS} } }`,
};
const LOGOUT = "mutation Logout { logout { errors { message } } }";

let queue = Promise.resolve();

/** One at a time in all tabs; where the browser has no locks (without TLS, on another machine), in this tab. */
function alone(work) {
  if (navigator.locks) return navigator.locks.request("loquent.session", work);
  queue = queue.then(work, work);
  return queue;
}

/** `onChange(user, wasEnded)` hears of every other person than before: null for nobody. */
export class Session {
  #url;
  #onChange;
  #now = kept.get(NAME);

  constructor(url, onChange) {
    this.#url = url;
    this.#onChange = onChange;
    addEventListener("storage", ({ key }) => {
      if (key === `loquent.${NAME}` || key === null) this.#become(kept.get(NAME));
    });
  }

  get user() {
    return this.#now?.user ?? null;
  }

  /** One that holds, renewed where it is about to end; null for nobody. Throws GraphError. */
  async token() {
    if (!this.#now) return null;
    return Date.now() < this.#now.endsAt - EARLY ? this.#now.accessToken : this.renewed(this.#now.accessToken);
  }

  /** Another one than `stale`; null when the sign-in is over. Throws GraphError where that cannot be known. */
  renewed(stale) {
    return alone(async () => {
      const now = kept.get(NAME) ?? this.#now;
      if (!now) return null;
      if (now.accessToken !== stale) {
        this.#become(now);
        return now.accessToken;
      }
      const answer = await post(this.#url, null, {
        query: SIGN_INS.refreshToken,
        variables: { input: { refreshToken: now.refreshToken } },
      });
      const problem = problemOf(answer, "refreshToken");
      if (problem && problem.code !== "UNAUTHENTICATED") throw problem;
      if (problem) this.#keep(null, true);
      else this.#take(answer.data.refreshToken);
      return this.#now?.accessToken ?? null;
    });
  }

  /** `kind` is the mutation: guestLogin, login, register or upgradeGuest. Throws GraphError. */
  async signIn(kind, input) {
    const token = kind === "upgradeGuest" ? await this.token() : null;
    const payload = input ? { query: SIGN_INS[kind], variables: { input } } : { query: SIGN_INS[kind] };
    const answer = await post(this.#url, token, payload);
    const problem = problemOf(answer, kind);
    if (problem) throw problem;
    await alone(async () => this.#take(answer.data[kind]));
  }

  async signOut() {
    const token = this.#now?.accessToken;
    this.#keep(null);
    if (token) await post(this.#url, token, { query: LOGOUT }).catch(() => {});
  }

  #take({ accessToken, refreshToken, expiresIn, user }) {
    if (!accessToken) throw new GraphError("The server gave no token");
    this.#keep({ accessToken, refreshToken, endsAt: Date.now() + expiresIn * 1000, user });
  }

  #keep(now, wasEnded = false) {
    kept.set(NAME, now);
    this.#become(now, wasEnded);
  }

  #become(now, wasEnded = false) {
    const before = this.#now?.user;
    this.#now = now;
    const user = now?.user;
    if (before?.id !== user?.id || before?.role !== user?.role) this.#onChange(this.user, wasEnded);
  }
}
