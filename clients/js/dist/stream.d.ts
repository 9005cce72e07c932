import { type Auth } from "./http.js";
import type { Link, Listener } from "./protocol.js";
/**
 * A link over HTTP: one event stream for all topics, and a POST for what is published.
 *
 * A subscribe is a read of the history, which is its ack and its replay; the stream then goes on
 * from there. It is opened anew, from the positions reached, whenever the topics change.
 */
export declare function openStream(base: string, auth: Auth, silenceMs: number, listener: Listener): Link;
