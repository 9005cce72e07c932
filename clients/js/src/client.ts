import { ShardcastError } from "./error.js";
import { ask, isOfAuth, proof, type Auth } from "./http.js";
import { outbox, type Receipt } from "./outbox.js";
import { nextId, type Link, type Listener, type Message } from "./protocol.js";
import { openSocket } from "./socket.js";
import { openStream } from "./stream.js";
import { tell, type SubscribeOptions, type Subscription } from "./subscription.js";
import { subscriptions } from "./subscriptions.js";

/**
 * `connecting`: on the way, the key included; `open`; `waiting`: lost, and tried again after a pause;
 * `failed`: the broker does not take the key, which is final; `closed`: by `close()`.
 */
export type ClientState = "connecting" | "open" | "waiting" | "failed" | "closed";

export type Secret = string | (() => string | undefined | Promise<string | undefined>);

export interface ConnectOptions {
  /** API key, or what gives it for each connection. */
  key?: Secret;
  /** Token (JWT). A function is asked for a fresh one for each connection, and before the old one ends. */
  token?: Secret;
  /** Ticket for each WebSocket: from a function, or with `true` from the broker, by the key or token. */
  ticket?: true | (() => string | Promise<string>);
  /** Name of this client in the broker's log and list of connections. */
  clientId?: string;
  /** `auto`: a WebSocket, and where none comes through an event stream and POST. */
  transport?: "auto" | "ws" | "sse";
  /** Most publishes without an answer; 10,000. */
  queueMax?: number;
  /** Most bytes of them; 4 MiB. */
  queueBytesMax?: number;
  /** Milliseconds for a connection to come about, the key included; 10,000. */
  connectTimeoutMs?: number;
  /** Silence in milliseconds after which a ping is sent, and again after which the link is dead; 10,000. */
  heartbeatMs?: number;
  /** Silence in milliseconds after which an event stream is dead; 75,000. */
  streamSilenceMs?: number;
  /** Most milliseconds of the random pause before the first new try; it doubles with each; 500. */
  backoffMs?: number;
  /** Where it stops doubling; 30,000. */
  backoffMaxMs?: number;
  /** The WebSocket to use where there is no global one. */
  WebSocket?: typeof WebSocket;
  onState?: (state: ClientState, error?: ShardcastError) => void;
}

export interface PublishOptions {
  /** UUID of the message; made if not given. */
  id?: string;
  /** Repeat it after a cut until it is answered, which never doubles it; true. */
  once?: boolean;
}

/** One broker, over as many connections as it takes. */
export interface Client {
  readonly state: ClientState;
  /** What carries it, while it is open. */
  readonly transport: "ws" | "sse" | undefined;
  /** Listens to a topic or a pattern. */
  subscribe<T = unknown>(topic: string, options?: SubscribeOptions<T>): Subscription<T>;
  /** Publishes; where there is no connection, as soon as there is one. */
  publish(topic: string, payload: unknown, options?: PublishOptions): Promise<Receipt>;
  /** Ends everything: what has no answer yet fails with `CLOSED`. */
  close(): void;
}

type Timer = ReturnType<typeof setTimeout>;

const given = (secret?: Secret) => (typeof secret === "function" ? secret() : secret);

/** `crypto.randomUUID` is only there for pages that came by https. */
function uuid(): string {
  const random = crypto.getRandomValues(new Uint8Array(36));
  return "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx".replace(/x/g, (_, at) => (random[at]! & 15).toString(16));
}

/** Returns a client at once; it connects, and stays so, by itself. */
export function connect(url: string | URL, options: ConnectOptions = {}): Client {
  const { key, token, ticket, transport = "auto", clientId, onState } = options;
  const { queueMax = 10_000, queueBytesMax = 4_194_304 } = options;
  const { connectTimeoutMs = 10_000, heartbeatMs = 10_000, streamSilenceMs = 75_000 } = options;
  const { backoffMs = 500, backoffMaxMs = 30_000 } = options;
  const { origin, pathname } = new URL(url, globalThis.location?.href);
  const base = (origin + pathname).replace(/^ws/, "http").replace(/\/(ws\/?)?$/, "");

  let state: ClientState = "connecting";
  /** Why it is over. */
  let end: ShardcastError | undefined;
  let carrier: "ws" | "sse" = "ws";
  let link: Link | undefined;
  /** What is tried at once if this link does not open. */
  let instead: (() => void) | undefined;
  /** Which link is listened to: what an earlier one still says is not heard. */
  let attempt = 0;
  let tries = 0;
  /** When the broker wants this client back. */
  let slotMs: number | undefined;
  let auth: Auth;
  const hasProof = key || token;
  let timer: Timer | undefined;
  let beat: Timer | undefined;
  let renewal: Timer | undefined;
  /** Heartbeats since something was heard. */
  let silence = 0;

  const send = (frame?: string) => state === "open" && (frame && link!.send(frame), true);
  const say = (command?: object) => send(command && JSON.stringify(command));
  /** Exponential, and anywhere in it, so that many clients do not come back at once. */
  const pause = (tries: number) => Math.random() * Math.min(backoffMaxMs, backoffMs * 2 ** tries);
  const posts = outbox(queueMax, queueBytesMax, send);
  const subscribed = subscriptions(say, pause);

  function turn(next: ClientState, error?: ShardcastError): void {
    state = next;
    tell(onState, state, error);
  }

  function finish(state: "closed" | "failed", error: ShardcastError): void {
    if (end) return;
    end = error;
    drop();
    turn(state, error);
    subscribed.end_(state === "failed" ? error : undefined);
    posts.end_(error);
  }

  /** Forgets the link, whatever its state. */
  function drop(): void {
    attempt++;
    link?.close();
    link = undefined;
    [timer, renewal, beat].forEach(clearTimeout);
  }

  async function dial(): Promise<void> {
    const Socket = options.WebSocket ?? globalThis.WebSocket;
    const query = new URLSearchParams();
    const mine = attempt;
    const fresh: Auth = {};
    const stream = () => {
      carrier = "sse";
      limit();
      link = openStream(base, auth, streamSilenceMs, listener(ready));
    };
    limit();
    turn("connecting");
    try {
      fresh.api_key = await given(key);
      fresh.token = await given(token);
      if (clientId) query.set("client_id", clientId);
      if (ticket === true) {
        const answer = await ask(base + "/tickets", { method: "POST", headers: proof(fresh) });
        query.set("ticket", (await answer.json()).ticket);
      } else if (ticket) query.set("ticket", await ticket());
      if (mine !== attempt) return;
      auth = fresh;
      if (transport === "sse" || !Socket) return stream();
      carrier = "ws";
      // With nothing but tickets neither a history can be read over HTTP nor anything be published.
      if (transport === "auto" && (!ticket || hasProof)) instead = stream;
      const opened = () => (hasProof && !ticket ? prove("auth") : ready());
      link = openSocket(Socket, base.replace("http", "ws") + "/ws?" + query, listener(opened));
    } catch (error: any) {
      // A browser throws too, where a page may not have such a WebSocket.
      if (mine === attempt)
        if (isOfAuth(error.code)) finish("failed", error);
        else ended(0, error.retryAfterMs, error);
    }
  }

  function limit(): void {
    clearTimeout(timer);
    timer = setTimeout(ended, connectTimeoutMs);
  }

  function listener(opened: () => void): Listener {
    const mine = attempt;
    const current = (then: () => void) => mine === attempt && then();
    return {
      opened_: () =>
        current(() => {
          instead = undefined;
          opened();
        }),
      heard_: (message) => current(() => take(message)),
      ended_: (code, retryAfterMs) => current(() => ended(code, retryAfterMs)),
    };
  }

  const prove = (request_id: string) => link!.send(JSON.stringify({ type: "auth", ...auth, request_id }));

  function ready(): void {
    clearTimeout(timer);
    state = "open";
    listen();
    renewLater();
    subscribed.open_();
    posts.resume_();
    tell(onState, state);
  }

  /** Asks for a sign of life where none comes by itself. */
  function listen(): void {
    let last = Date.now();
    silence = 0;
    beat = setInterval(() => {
      const now = Date.now();
      // It has lasted, so the next try is a first one again.
      tries = 0;
      // Who stood still has not read what waits, and judges nobody.
      if (now - last > heartbeatMs * 1.5) silence = 0;
      if (silence > 1) return ended();
      if (silence++) say({ type: "ping", request_id: "ping" });
      last = now;
    }, heartbeatMs);
  }

  /** A token that can be had anew is replaced when four fifths of its time are over. */
  function renewLater(): void {
    const mine = attempt;
    if (typeof token !== "function") return;
    try {
      const claims = atob(auth.token!.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"));
      const left = JSON.parse(claims).exp * 1000 - Date.now();
      renewal = setTimeout(renew, Math.min(Math.max(left * 0.8, 1000), 2 ** 31 - 1));
    } catch {
      // What the token is, is the broker's affair: without a time in it there is none to keep.
    }
    async function renew(): Promise<void> {
      // Where it cannot be had, the connection ends with the old one, and the next asks again.
      const fresh = await (async () => given(token))().catch(() => {});
      if (!fresh || mine !== attempt) return;
      auth = { token: fresh };
      prove("renew");
      renewLater();
    }
  }

  const lost = new ShardcastError("CONNECTION_LOST");

  function ended(code?: number, retryAfterMs = slotMs, error = lost): void {
    const next = instead;
    drop();
    instead = slotMs = undefined;
    if (next) return next();
    turn("waiting", error);
    posts.cut_(code);
    subscribed.cut_();
    // What was told may have closed it.
    if (!end) timer = setTimeout(dial, retryAfterMs ?? pause(tries++));
  }

  function take(message: Message): void {
    const { request_id, error, msg, retry_after_ms } = message;
    silence = 0;
    if (error && isOfAuth(error.code) && (request_id === "auth" || !(hasProof || ticket)))
      finish("failed", new ShardcastError(error.code, error.message));
    else if (request_id === "auth") {
      if (error) ended(0, retry_after_ms, new ShardcastError(error.code, error.message));
      else ready();
    } else if (msg === "shutting_down") slotMs = retry_after_ms;
    else if (!subscribed.take_(message)) posts.answer_(message);
  }

  dial();

  return {
    get state() {
      return state;
    },
    get transport() {
      return state === "open" ? carrier : undefined;
    },
    subscribe(topic, options = {}) {
      const { finish_, face_ } = subscribed.subscribe_(topic, options);
      if (end) finish_("failed", end);
      return face_;
    },
    async publish(topic, payload, { id = uuid(), once = true } = {}) {
      if (end) throw end;
      const request_id = nextId();
      const message = { id, payload: payload ?? null, once: once || undefined };
      return posts.post_(request_id, id, JSON.stringify({ type: "publish", topic, message, request_id }), once);
    },
    close: () => finish("closed", new ShardcastError("CLOSED")),
  };
}
