/**
 * Client for shardcast, a publish/subscribe broker. `connect` is where to begin.
 */
import { Client, type ConnectOptions } from "./client.js";

/** Returns a client at once; it connects, and stays so, by itself. */
export const connect = (url: string | URL, options: ConnectOptions = {}): Client => new Client(url, options);

export { ShardcastError } from "./error.js";
export { matches } from "./pattern.js";
export type { Client, ClientState, ConnectOptions, PublishOptions, Secret } from "./client.js";
export type { Gap } from "./cursor.js";
export type { Receipt } from "./outbox.js";
export type { Position } from "./protocol.js";
export type { ShardcastEvent, SubscribeOptions, Subscription, SubscriptionState } from "./subscription.js";
