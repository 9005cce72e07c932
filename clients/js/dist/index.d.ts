export { connect } from "./client.js";
export { ShardcastError } from "./error.js";
export { matches } from "./pattern.js";
export type { Client, ClientState, ConnectOptions, PublishOptions, Secret } from "./client.js";
export type { Gap } from "./cursor.js";
export type { Receipt } from "./outbox.js";
export type { Position } from "./protocol.js";
export type { ShardcastEvent, SubscribeOptions, Subscription, SubscriptionState } from "./subscription.js";
