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
 * leaves without one is sent again. `send` says whether there is a connection.
 */
export declare function outbox(countMax: number, bytesMax: number, send: (frame?: string) => unknown): {
    resume_: () => void;
    post_(request_id: string, id_: string, frame_: string, once_: boolean): Promise<Receipt>;
    answer_({ request_id, seq, matched, duplicate, error, retry_after_ms }: Message): void;
    /** The connection has ended, with this close code. */
    cut_(code?: number): void;
    /** Gives all of it up. */
    end_({ code, message }: ShardcastError): void;
};
