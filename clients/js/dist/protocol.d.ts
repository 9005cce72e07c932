/** What an answer is known by. */
export declare const nextId: () => string;
/** A place in the order of a topic: behind the event `seq`. */
export interface Position {
    epoch: string;
    seq: number;
}
export interface WireError {
    code: string;
    message: string;
}
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
    message?: {
        id: string;
        payload: unknown;
    };
    skipped?: number;
    error?: WireError;
    msg?: string;
    retry_after_ms?: number;
}
/** One way to the broker. It speaks the protocol of the WebSocket, whatever it is. */
export interface Link {
    send(frame: string): void;
    /** Ends it at once; nothing is heard of it any more. */
    close(): void;
}
/** Who listens to a link. */
export interface Listener {
    opened_(): void;
    heard_(message: Message): void;
    /** It has ended, with this close code, and is to be tried again after so long. */
    ended_(code?: number, retryAfterMs?: number): void;
}
