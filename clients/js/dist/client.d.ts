import { ShardcastError } from "./error.js";
import { type Receipt } from "./outbox.js";
import { type SubscribeOptions, type Subscription } from "./subscription.js";
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
/** Returns a client at once; it connects, and stays so, by itself. */
export declare function connect(url: string | URL, options?: ConnectOptions): Client;
