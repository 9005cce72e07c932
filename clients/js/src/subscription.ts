import { Cursor, type Gap } from "./cursor.js";
import { ShardcastError } from "./error.js";
import { isPattern } from "./pattern.js";
import type { Message, Position } from "./protocol.js";

/**
 * `pending`: not confirmed yet, or not again since the connection was lost; `waiting`: its topic is
 * not there (any more), or the broker refused it for now: it is tried again; `failed` and `ended`
 * are final.
 */
export type SubscriptionState = "pending" | "live" | "waiting" | "failed" | "ended";

export interface ShardcastEvent<T = unknown> {
  topic: string;
  /** Together with `seq` the event's position; another epoch is another topic of that name. */
  epoch: string;
  seq: number;
  /** The publisher's id of the message. */
  id: string;
  payload: T;
  /** When the broker accepted it: RFC 3339, UTC. */
  ts: string;
  /** By a policy: how many events this one stands for beside itself. */
  skipped?: number;
}

export interface SubscribeOptions<T = unknown> {
  /** First the newest so many events that are kept, of each topic. */
  last?: number;
  /** First all behind this position; for a pattern a position for each topic. Wins over `last`. */
  since?: Position | Record<string, Position>;
  /** `latest`: of each topic only the newest event waits for this connection. */
  policy?: "latest";
  /** At most so many events a second of each topic, the newest of each interval. */
  maxRate?: number;
  /** Events that wait for the loop that reads them; over it the oldest is dropped, and told as a gap. */
  bufferMax?: number;
  /** Called for each event; without it they are read by `for await`. */
  onEvent?: (event: ShardcastEvent<T>) => void;
  onGap?: (gap: Gap) => void;
  onState?: (state: SubscriptionState, error?: ShardcastError) => void;
}

/** Calls what the user has given. What it throws is the user's, and must not stop what is under way. */
export function tell<A extends unknown[]>(callback: ((...said: A) => void) | undefined, ...said: A): void {
  try {
    callback?.(...said);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/** A topic or pattern that is listened to, over as many connections as it takes. */
export class Subscription<T = unknown> implements AsyncIterable<ShardcastEvent<T>> {
  /** Fulfilled when the broker has confirmed it, rejected when it fails before. */
  readonly ready: Promise<void>;
  /** @internal Refusals in a row. */
  tries_ = 0;
  /** @internal */
  retry_: ReturnType<typeof setTimeout> | undefined;
  /** @internal */
  readonly cursor_ = new Cursor((gap) => tell(this.options_.onGap, gap));
  /** @internal Once it was confirmed, or was given positions, it goes on instead of beginning. */
  resumes_ = false;

  #state: SubscriptionState = "pending";
  #error?: ShardcastError;
  #buffer: ShardcastEvent<T>[] = [];
  #wake?: () => void;
  #settle!: [() => void, (error: ShardcastError) => void];

  /** @internal */
  constructor(
    readonly topic: string,
    /** @internal */
    readonly options_: SubscribeOptions<T>,
    private readonly leave_: (state: "failed" | "ended") => void,
  ) {
    this.ready = new Promise((...settle) => (this.#settle = settle));
    // Who does not ask for it has `onState`, or the loop.
    this.ready.catch(() => {});
    const { since } = options_;
    if (since) {
      this.resumes_ = true;
      const places = isPattern(topic) ? since : { [topic]: since };
      for (const [name, place] of Object.entries(places)) this.cursor_.resume_(name, place as Position);
    }
  }

  get state(): SubscriptionState {
    return this.#state;
  }

  /** What to give as `since` to go on from here: a position, and of a pattern one for each topic. */
  get position(): Position | Record<string, Position> | undefined {
    const places = this.cursor_.positions_();
    return isPattern(this.topic) ? places : places[this.topic];
  }

  /** Ends it. No event is told any more. */
  unsubscribe(): void {
    if (this.finish_("ended")) this.#buffer = [];
  }

  /** Reads the events, one loop at a time. Leaving the loop ends the subscription. */
  async *[Symbol.asyncIterator](): AsyncGenerator<ShardcastEvent<T>, void> {
    try {
      for (;;) {
        const event = this.#buffer.shift();
        if (event) yield event;
        else if (this.#error) throw this.#error;
        else if (this.#state === "ended") return;
        else await new Promise<void>((wake) => (this.#wake = wake));
      }
    } finally {
      this.unsubscribe();
    }
  }

  /** @internal */
  turn_(state: SubscriptionState, error?: ShardcastError): void {
    if (state === this.#state && !error) return;
    this.#state = state;
    if (state === "live") this.#settle[0]();
    tell(this.options_.onState, state, error);
  }

  /** @internal Whether this was its end. */
  finish_(state: "failed" | "ended", error?: ShardcastError): boolean {
    if (this.over_) return false;
    clearTimeout(this.retry_);
    this.#error = error;
    this.leave_(state);
    this.turn_(state, error);
    this.#settle[1](error ?? new ShardcastError("CLOSED", "the subscription has ended"));
    this.#wake?.();
    return true;
  }

  /** @internal */
  get over_(): boolean {
    return this.#state === "failed" || this.#state === "ended";
  }

  /** @internal */
  take_({ topic = "", seq = 0, ts = "", message, skipped }: Message): void {
    if (this.#state !== "live") return;
    const place = this.cursor_.passes_(topic, seq, skipped);
    // Told of a gap, the caller may have ended it.
    if (!place || this.over_) return;
    const { id, payload } = message!;
    const event = { topic, epoch: place.epoch, seq, id, payload: payload as T, ts, ...(skipped && { skipped }) };
    const { onEvent, bufferMax = 1000 } = this.options_;
    if (onEvent) return tell(onEvent, event);
    if (this.#buffer.push(event) > bufferMax) {
      const { topic, epoch, seq } = this.#buffer.shift()!;
      tell(this.options_.onGap, { topic, epoch, from: seq, to: seq, lost: 1, reason: "slow" });
    }
    this.#wake?.();
  }
}
