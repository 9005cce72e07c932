import { ShardcastError } from "./error.js";
import type { Message } from "./protocol.js";
/** What a publish came to. */
export interface Receipt {
    id: string;
    /** Its place in the order of the topic. */
    seq: number;
    /** Subscribers that it was offered to. */
    matched: number;
    /** It was there before: an earlier try had come through. */
    duplicate?: boolean;
}
/**
 * What is published and not answered yet, in order. Bounded, and kept until the answer: what a cut
 * leaves without one is sent again.
 */
export declare class Outbox {
    #private;
    private readonly countMax_;
    private readonly bytesMax_;
    private readonly send_;
    /** `send` is there while there is a connection. */
    constructor(countMax_: number, bytesMax_: number, send_: () => ((frame: string) => void) | undefined);
    post_(request_id: string, id: string, frame: string, once: boolean): Promise<Receipt>;
    flush_(): void;
    /** Whether the message was the answer to one of these. */
    answer_({ type, request_id, seq, matched, duplicate, error, retry_after_ms }: Message): boolean;
    /** Goes on at once: after a pause, or on a new connection. */
    resume_(): void;
    /** The connection has ended, with this close code. */
    cut_(code?: number): void;
    /** Gives all of it up. */
    end_(error: ShardcastError): void;
}
