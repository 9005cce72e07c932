import { type Gap } from "./cursor.js";
import { ShardcastError } from "./error.js";
import type { Position } from "./protocol.js";
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
