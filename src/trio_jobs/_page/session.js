// The secret of this session, in sessionStorage; a new tab asks the others for it. There are no cookies.

const KEY = "trio-jobs.session", ASK_TIME = 250;

const others = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("trio-jobs");

class Session {
  onend = () => {};

  constructor() {
    if (others !== null) others.onmessage = ({ data }) => this.#hear(data);
  }

  #hear(data) {
    const kept = this.#kept();
    if (data?.wants === true && kept !== null) others.postMessage({ secret: kept });
    if (data?.ended === true && kept !== null) { this.forget(); this.onend(); }
    if (typeof data?.secret === "string") this.#take?.(data.secret);
  }

  #take = null;

  #kept() {
    try { return sessionStorage.getItem(KEY); } catch { return null; }
  }

  // Whether the address is a login link
  link() {
    return /^#login=./.test(location.hash);
  }

  // The secret of a session; null if there is none. used: the login link no longer works
  async find() {
    const kept = this.#kept();
    if (kept !== null) return { secret: kept, used: false };
    if (others === null) return { secret: null, used: false };
    const secret = await new Promise((done) => {
      this.#take = done;
      others.postMessage({ wants: true });
      setTimeout(() => done(null), ASK_TIME);
    });
    this.#take = null;
    return { secret, used: false };
  }

  keep(secret) {
    try { sessionStorage.setItem(KEY, secret); } catch { /* the session ends with the page */ }
  }

  forget() {
    try { sessionStorage.removeItem(KEY); } catch { /* there was none */ }
  }

  // Log out, in all tabs
  end() {
    this.forget();
    others?.postMessage({ ended: true });
  }
}

export const session = new Session();
