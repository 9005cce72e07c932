import { cursor, type Gap } from "./cursor.js";
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

/**
 * Calls what the user has given. What it throws is the user's, and must not stop what is under way.
 *
 * @internal
 */
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
export interface Subscription<T = unknown> extends AsyncIterable<ShardcastEvent<T>> {
  readonly topic: string;
  readonly state: SubscriptionState;
  /** Fulfilled when the broker has confirmed it, rejected when it fails before. */
  readonly ready: Promise<void>;
  /** What to give as `since` to go on from here: a position, and of a pattern one for each topic. */
  readonly position: Position | Record<string, Position> | undefined;
  /** Ends it. No event is told any more. */
  unsubscribe(): void;
  /** Reads the events, one loop at a time. Leaving the loop ends the subscription. */
  [Symbol.asyncIterator](): AsyncGenerator<ShardcastEvent<T>, void>;
}

/** @internal */
export type Internal = ReturnType<typeof subscription>;

/**
 * `leave` is called at its end.
 *
 * @internal
 */
export function subscription(topic: string, options: SubscribeOptions<any>, leave: (state: "failed" | "ended") => void) {
  const { since, onEvent, onGap, onState, bufferMax = 1000 } = options;
  const places = cursor((gap) => tell(onGap, gap));
  let state: SubscriptionState = "pending";
  let failure: ShardcastError | undefined;
  let buffer: ShardcastEvent<any>[] = [];
  let wake: (() => void) | undefined;
  let settle: [() => void, (error: ShardcastError) => void];

  const ready = new Promise<void>((...both) => (settle = both));
  // Who does not ask for it has `onState`, or the loop.
  ready.catch(() => {});
  const isOver = () => state === "failed" || state === "ended";

  function turn(next: SubscriptionState, error?: ShardcastError): void {
    if (isOver() || (next === state && !error)) return;
    state = next;
    if (state === "live") settle[0]();
    tell(onState, state, error);
  }

  function finish(last: "failed" | "ended", error?: ShardcastError): void {
    if (isOver()) return;
    clearTimeout(internal.retry_);
    failure = error;
    leave(last);
    turn(last, error);
    settle[1](error ?? new ShardcastError("CLOSED"));
    wake?.();
  }

  function unsubscribe(): void {
    buffer = [];
    finish("ended");
  }

  if (since)
    for (const [name, { epoch, seq }] of Object.entries(isPattern(topic) ? since : { [topic]: since }))
      places.start_(name, epoch, seq, 0, false);

  const internal = {
    topic_: topic,
    options_: options,
    cursor_: places,
    /** Refusals in a row. */
    tries_: 0,
    retry_: undefined as ReturnType<typeof setTimeout> | undefined,
    /** Once it was confirmed, or was given positions, it goes on instead of beginning. */
    resumes_: !!since,
    isOver_: isOver,
    turn_: turn,
    finish_: finish,

    take_({ topic = "", seq = 0, ts, message, skipped }: Message): void {
      if (state !== "live") return;
      const place = places.pass_(topic, seq, skipped);
      // Told of a gap, the caller may have ended it.
      if (!place || isOver()) return;
      const event: any = { topic, epoch: place.epoch, seq, ...message, ts, ...(skipped && { skipped }) };
      if (onEvent) return tell(onEvent, event);
      if (buffer.push(event) > bufferMax) {
        const { topic, epoch, seq } = buffer.shift()!;
        tell(onGap, { topic, epoch, from: seq, to: seq, lost: 1, reason: "slow" });
      }
      wake?.();
    },

    face_: {
      topic,
      ready,
      unsubscribe,
      get state() {
        return state;
      },
      get position() {
        const reached = places.positions_();
        return isPattern(topic) ? reached : reached[topic];
      },
      async *[Symbol.asyncIterator]() {
        try {
          for (;;) {
            const event = buffer.shift();
            if (event) yield event;
            else if (failure) throw failure;
            else if (isOver()) return;
            else await new Promise<void>((woken) => (wake = woken));
          }
        } finally {
          unsubscribe();
        }
      },
    } as Subscription<any>,
  };
  return internal;
}
