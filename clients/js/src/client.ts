import { ShardcastError } from "./error.js";
import { ask } from "./http.js";
import { Outbox, type Receipt } from "./outbox.js";
import { isPattern, matches } from "./pattern.js";
import type { Link, Listener, Message, Position } from "./protocol.js";
import { openSocket } from "./socket.js";
import { credentials, openStream } from "./stream.js";
import { Subscription, tell, type SubscribeOptions } from "./subscription.js";

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
  /** Longest pause in milliseconds before the first new try; it doubles with each; 500. */
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

type Auth = { api_key?: string; token?: string };
type Timer = ReturnType<typeof setTimeout>;

/** Longest command, in characters, that a broker with its default settings takes in any case. */
const FRAME_MAX = 65_536 / 3;

/** Time in milliseconds for which a connection has to last to count as a good one. */
const GOOD_MS = 10_000;

const ofAuth = ["UNAUTHORIZED", "INVALID_API_KEY", "INVALID_TOKEN", "MISSING_API_KEY"];

const given = (secret?: Secret) => (typeof secret === "function" ? secret() : secret);

const lost = new ShardcastError("CONNECTION_LOST", "the connection was lost");

function uuid(): string {
  // crypto.randomUUID is only there for pages that came by https.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6]! & 15) | 64;
  bytes[8] = (bytes[8]! & 63) | 128;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** One broker, over as many connections as it takes. */
export class Client {
  #state: ClientState = "connecting";
  #error?: ShardcastError;
  #transport?: "ws" | "sse";
  #link?: Link;
  /** What is tried at once if this link does not open. */
  #instead?: () => void;
  /** Which link is listened to: what an earlier one still says is not heard. */
  #attempt = 0;
  #tries = 0;
  #openedAt = 0;
  #retryAfterMs?: number;
  #auth?: Auth;
  #timer?: Timer;
  #beat?: Timer;
  #renewal?: Timer;
  #heard = true;
  #requests = 0;
  #asked = new Map<string, (answer: Message) => void>();
  #topics = new Map<string, Set<Subscription<any>>>();
  #patterns = new Set<Subscription<any>>();
  #outbox: Outbox;
  readonly #base: string;
  readonly #options: ConnectOptions;

  constructor(url: string | URL, options: ConnectOptions) {
    const { origin, pathname } = new URL(url, globalThis.location?.href);
    this.#base = (origin + pathname).replace(/^ws/, "http").replace(/\/(ws\/?)?$/, "");
    this.#options = options;
    this.#outbox = new Outbox(options.queueMax ?? 10_000, options.queueBytesMax ?? 4_194_304, () =>
      this.#state === "open" ? (frame) => this.#link!.send(frame) : undefined,
    );
    globalThis.addEventListener?.("online", this.#hurry);
    this.#dial();
  }

  get state(): ClientState {
    return this.#state;
  }

  /** What carries it, while it is open. */
  get transport(): "ws" | "sse" | undefined {
    return this.#state === "open" ? this.#transport : undefined;
  }

  subscribe<T = unknown>(topic: string, options: SubscribeOptions<T> = {}): Subscription<T> {
    const subscription = new Subscription<T>(topic, options, (state) => this.#leave(subscription, state));
    if (this.#error) {
      subscription.finish_("failed", this.#error);
      return subscription;
    }
    this.#topics.set(topic, (this.#topics.get(topic) ?? new Set()).add(subscription));
    if (isPattern(topic)) this.#patterns.add(subscription);
    this.#ask(subscription);
    return subscription;
  }

  async publish(topic: string, payload: unknown, { id = uuid(), once = true }: PublishOptions = {}): Promise<Receipt> {
    if (this.#error) throw this.#error;
    const request_id = `${++this.#requests}`;
    const message = { id, payload: payload ?? null, once: once || undefined };
    const frame = JSON.stringify({ type: "publish", topic, message, request_id });
    return this.#outbox.post_(request_id, id, frame, once);
  }

  /** Ends everything: what has no answer yet fails with `CLOSED`. */
  close(): void {
    this.#end("closed", new ShardcastError("CLOSED", "the client was closed"));
  }

  #turn(state: ClientState, error?: ShardcastError): void {
    this.#state = state;
    tell(this.#options.onState, state, error);
  }

  #end(state: "closed" | "failed", error: ShardcastError): void {
    if (this.#error) return;
    this.#error = error;
    this.#drop();
    globalThis.removeEventListener?.("online", this.#hurry);
    this.#turn(state, error);
    for (const subscription of this.#subscriptions())
      if (state === "closed") subscription.finish_("ended");
      else subscription.finish_("failed", error);
    this.#outbox.end_(error);
  }

  #subscriptions(): Subscription<any>[] {
    return [...this.#topics.values()].flatMap((all) => [...all]);
  }

  // The connection.

  async #dial(): Promise<void> {
    const { key, token, ticket, transport = "auto", clientId } = this.#options;
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    const attempt = this.#attempt;
    const query = new URLSearchParams();
    if (clientId) query.set("client_id", clientId);
    this.#limit();
    this.#turn("connecting");
    try {
      const [api_key, jwt] = await Promise.all([given(key), given(token)]);
      this.#auth = jwt ? { token: jwt } : api_key ? { api_key } : undefined;
      if (ticket) {
        const own = () => ask(`${this.#base}/tickets`, { method: "POST", headers: credentials(this.#auth) });
        query.set("ticket", ticket === true ? (await own()).ticket : await ticket());
      }
    } catch (error) {
      if (attempt !== this.#attempt) return;
      const { code, retryAfterMs } = error as ShardcastError;
      if (ticket === true && ofAuth.includes(code)) this.#end("failed", error as ShardcastError);
      else this.#ended(0, retryAfterMs, error as ShardcastError);
      return;
    }
    if (attempt !== this.#attempt) return;

    const stream = (): void => {
      this.#transport = "sse";
      this.#limit();
      const listener = this.#listener(() => this.#ready());
      this.#link = openStream(this.#base, credentials(this.#auth), this.#options.streamSilenceMs ?? 75_000, listener);
    };
    if (transport === "sse" || (transport === "auto" && !Socket)) return stream();
    this.#transport = "ws";
    // With nothing but tickets neither a history can be read over HTTP nor anything be published.
    if (transport === "auto" && (!ticket || this.#auth)) this.#instead = stream;
    const listener = this.#listener(() => (this.#auth && !ticket ? this.#prove() : this.#ready()));
    this.#link = openSocket(Socket, `${this.#base.replace(/^http/, "ws")}/ws?${query}`, listener);
  }

  #limit(): void {
    this.#timer = setTimeout(() => this.#ended(), this.#options.connectTimeoutMs ?? 10_000);
  }

  #listener(opened: () => void): Listener {
    const attempt = this.#attempt;
    const current = (then: () => void) => attempt === this.#attempt && then();
    return {
      opened_: () => current(opened),
      heard_: (message) => current(() => this.#take(message)),
      ended_: (code, retryAfterMs) => current(() => this.#ended(code, retryAfterMs)),
    };
  }

  #prove(): void {
    this.#instead = undefined;
    this.#asked.set("auth", (answer) => (answer.error ? this.#ended() : this.#ready()));
    this.#link!.send(JSON.stringify({ type: "auth", ...this.#auth, request_id: "auth" }));
  }

  #ready(): void {
    this.#instead = undefined;
    clearTimeout(this.#timer);
    this.#openedAt = Date.now();
    this.#state = "open";
    this.#listen();
    this.#renewLater();
    for (const subscription of this.#subscriptions()) this.#ask(subscription);
    this.#outbox.resume_();
    tell(this.#options.onState, "open");
  }

  /** Asks for a sign of life where none comes by itself. */
  #listen(): void {
    const pause = this.#options.heartbeatMs ?? 10_000;
    let asked = false;
    let last = Date.now();
    this.#heard = true;
    this.#beat = setInterval(() => {
      const now = Date.now();
      // Who stood still has not read what waits, and judges nobody.
      if (this.#heard || now - last > pause * 1.5) asked = false;
      else if (asked) return this.#ended();
      else {
        asked = true;
        this.#link!.send(JSON.stringify({ type: "ping", request_id: "ping" }));
      }
      this.#heard = false;
      last = now;
    }, pause);
  }

  /** A token that can be had anew is replaced when four fifths of its time are over. */
  #renewLater(): void {
    const { token } = this.#options;
    const attempt = this.#attempt;
    if (typeof token !== "function" || !this.#auth?.token) return;
    let left;
    try {
      left = JSON.parse(atob(this.#auth.token.split(".")[1]!.replace(/-/g, "+").replace(/_/g, "/"))).exp * 1000 - Date.now();
    } catch {
      // What the token is, is the broker's affair; without a time in it there is none to keep.
    }
    if (!left) return;
    const renew = async (): Promise<void> => {
      try {
        const fresh = await token();
        if (!fresh || attempt !== this.#attempt) return;
        this.#auth = { token: fresh };
        this.#link!.send(JSON.stringify({ type: "auth", ...this.#auth, request_id: "renew" }));
        this.#renewLater();
      } catch {
        // The connection then ends with the old token, and the next one asks again.
      }
    };
    this.#renewal = setTimeout(renew, Math.min(Math.max(left * 0.8, 1000), 2 ** 31 - 1));
  }

  /** Forgets the link, whatever its state. */
  #drop(): void {
    this.#attempt++;
    this.#link?.close();
    this.#link = undefined;
    this.#asked.clear();
    clearTimeout(this.#timer);
    clearTimeout(this.#renewal);
    clearInterval(this.#beat);
  }

  #ended(code?: number, retryAfterMs = this.#retryAfterMs, error = lost): void {
    const instead = this.#instead;
    const wasGood = this.#state === "open" && Date.now() - this.#openedAt > GOOD_MS;
    this.#drop();
    this.#instead = this.#retryAfterMs = undefined;
    if (instead) return instead();
    this.#turn("waiting", error);
    if (this.#error) return;
    this.#outbox.cut_(code);
    for (const subscription of this.#subscriptions()) {
      clearTimeout(subscription.retry_);
      subscription.turn_("pending");
    }
    if (wasGood) this.#tries = 0;
    // A callback may have closed it.
    if (!this.#error) this.#timer = setTimeout(() => this.#dial(), retryAfterMs ?? this.#pause(this.#tries++));
  }

  /** Exponential, and anywhere in it, so that many clients do not come back at once. */
  #pause(tries: number): number {
    const { backoffMs = 500, backoffMaxMs = 30_000 } = this.#options;
    return Math.random() * Math.min(backoffMaxMs, backoffMs * 2 ** tries);
  }

  /** The network is back: no use in waiting any longer. */
  #hurry = (): void => {
    if (this.#state !== "waiting") return;
    clearTimeout(this.#timer);
    this.#dial();
  };

  // What is heard.

  #take(message: Message): void {
    const { type, topic = "", request_id, error, msg, epoch } = message;
    this.#heard = true;
    if (error && ofAuth.includes(error.code) && (request_id === "auth" || !(this.#auth || this.#options.ticket)))
      return this.#end("failed", new ShardcastError(error.code, error.message));
    if (type === "event") {
      for (const subscription of this.#topics.get(topic) ?? []) subscription.take_(message);
      for (const subscription of this.#patterns) subscription.take_(message);
    } else if (request_id) {
      const answered = this.#asked.get(request_id);
      this.#asked.delete(request_id);
      if (answered) answered(message);
      else this.#outbox.answer_(message);
    } else if (error?.code === "FORBIDDEN") {
      // Rights have changed. Which topic it is, is only said in words.
      for (const subscription of this.#subscriptions())
        if (error.message.includes(`'${subscription.topic}'`))
          subscription.finish_("failed", new ShardcastError(error.code, error.message));
    } else if (type === "ack") {
      // A stream goes on. A topic may have become another one since its history was read.
      for (const [name, place] of Object.entries(message.positions ?? { [topic]: message as Position }))
        for (const { cursor_ } of this.#topics.get(name) ?? []) cursor_.start_(name, place.epoch, 0, 0, true);
    } else if (msg === "topic_created") {
      for (const { topic: pattern, cursor_ } of this.#patterns)
        if (matches(pattern, topic)) cursor_.start_(topic, epoch!, 0, 0, false);
    } else if (msg === "topic_deleted") {
      const gone = new ShardcastError("TOPIC_NOT_FOUND", `Topic '${topic}' was deleted`);
      for (const subscription of this.#topics.get(topic) ?? []) this.#wait(subscription, gone);
      for (const { cursor_ } of this.#patterns) cursor_.places_.delete(topic);
    } else if (msg === "shutting_down") this.#retryAfterMs = message.retry_after_ms;
  }

  // Subscriptions.

  #ask(subscription: Subscription<any>): void {
    if (this.#state !== "open" || subscription.over_) return;
    const { topic, cursor_, resumes_ } = subscription;
    const { last, policy, maxRate } = subscription.options_;
    const places = cursor_.positions_();
    const many = isPattern(topic);
    const request_id = `${++this.#requests}`;
    const command = {
      type: "subscribe",
      topic,
      last_n: resumes_ ? undefined : last,
      since: many || !resumes_ ? undefined : places[topic],
      positions: many ? !resumes_ || places : undefined,
      policy,
      max_rate: maxRate,
      request_id,
    };
    // More topics than a command has room for are not asked for again: what was missed is told.
    const leap = JSON.stringify(command).length > FRAME_MAX;
    if (leap) command.positions = true;
    this.#asked.set(request_id, (answer) => {
      if (subscription.over_) return;
      if (answer.error) return this.#refused(subscription, answer);
      const found = answer.positions ?? (many ? {} : { [topic]: answer as Position });
      for (const [name, { epoch, seq }] of Object.entries(found)) {
        const begin = resumes_ ? 0 : Math.max(0, seq - Math.max(0, last ?? 0));
        cursor_.start_(name, epoch, begin, resumes_ ? 0 : seq, answer.recovered === false);
        if (leap) cursor_.leap_(name, seq);
      }
      if (answer.positions) cursor_.keep_(found);
      subscription.resumes_ = true;
      subscription.tries_ = 0;
      if (!subscription.over_) subscription.turn_("live");
    });
    this.#link!.send(JSON.stringify(command));
  }

  #refused(subscription: Subscription<any>, { error, retry_after_ms }: Message): void {
    const refusal = new ShardcastError(error!.code, error!.message, retry_after_ms);
    const passing = ["UNAVAILABLE", "INTERNAL"];
    // One that was there before is worth waiting for.
    if (subscription.resumes_) passing.push("TOPIC_NOT_FOUND", "LIMIT_EXCEEDED", "UNSUPPORTED");
    if (retry_after_ms !== undefined || passing.includes(refusal.code)) this.#wait(subscription, refusal);
    else subscription.finish_("failed", refusal);
  }

  #wait(subscription: Subscription<any>, error: ShardcastError): void {
    subscription.turn_("waiting", error);
    const pause = error.retryAfterMs ?? this.#pause(subscription.tries_++);
    if (!subscription.over_) subscription.retry_ = setTimeout(() => this.#ask(subscription), pause);
  }

  #leave(subscription: Subscription<any>, state: "failed" | "ended"): void {
    const { topic } = subscription;
    const all = this.#topics.get(topic);
    this.#patterns.delete(subscription);
    if (!all?.delete(subscription) || all.size) return;
    this.#topics.delete(topic);
    if (state === "ended" && this.#state === "open")
      this.#link!.send(JSON.stringify({ type: "unsubscribe", topic, request_id: `${++this.#requests}` }));
  }
}
