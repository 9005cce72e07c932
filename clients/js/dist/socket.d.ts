import type { Link, Listener } from "./protocol.js";
/** A link over a WebSocket. */
export declare function openSocket(Socket: typeof WebSocket, url: string, listener: Listener): Link;
