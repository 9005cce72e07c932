import type { Link, Listener } from "./protocol.js";
/** The headers that prove who asks. */
export declare function credentials(auth?: {
    api_key?: string;
    token?: string;
}): Record<string, string>;
/**
 * A link over HTTP: one event stream for all topics, and a POST for what is published.
 *
 * A subscribe is a read of the history, which is its ack and its replay; the stream then goes on
 * from there. It is opened anew, from the positions reached, whenever the topics change.
 */
export declare function openStream(base: string, headers: Record<string, string>, silenceMs: number, listener: Listener): Link;
