// What the broker says, as far as the client looks at it.

/** @internal What a command has on the wire. */
export const bytesOf = (frame: string): number => new TextEncoder().encode(frame).length;

let requests = 0;

/**
 * What an answer is known by.
 *
 * @internal
 */
export const nextId = (): string => `${++requests}`;

/** A place in the order of a topic: behind the event `seq`. */
export interface Position {
  epoch: string;
  seq: number;
}

/** @internal */
export interface WireError {
  code: string;
  message: string;
}

/** @internal */
export interface Message {
  type: "ack" | "event" | "error" | "info" | "pong";
  request_id?: string;
  topic?: string;
  ts?: string;
  epoch?: string;
  seq?: number;
  matched?: number;
  duplicate?: boolean;
  recovered?: boolean;
  positions?: Record<string, Position>;
  message?: { id: string; payload: unknown };
  skipped?: number;
  error?: WireError;
  msg?: string;
  retry_after_ms?: number;
}

/**
 * One way to the broker. It speaks the protocol of the WebSocket, whatever it is.
 *
 * @internal
 */
export interface Link {
  send(frame: string): void;
  /** Ends it at once; nothing is heard of it any more. */
  close(): void;
}

/**
 * Who listens to a link: until it has closed it, or heard of its end. What comes later is dropped.
 *
 * @internal
 */
export interface Listener {
  opened_(): void;
  heard_(message: Message): void;
  /** It has ended, with this close code, and is to be tried again after so long. */
  ended_(code?: number, retryAfterMs?: number): void;
}
