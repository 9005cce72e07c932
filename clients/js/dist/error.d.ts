/** What the broker refused, or the client itself: `code` says what. */
export declare class ShardcastError extends Error {
    /** One of the broker's codes, or `QUEUE_FULL`, `CONNECTION_LOST` or `CLOSED`. */
    readonly code: string;
    /** After how many milliseconds it would be taken, where the broker has said so. */
    readonly retryAfterMs?: number | undefined;
    constructor(
    /** One of the broker's codes, or `QUEUE_FULL`, `CONNECTION_LOST` or `CLOSED`. */
    code: string, message?: string, 
    /** After how many milliseconds it would be taken, where the broker has said so. */
    retryAfterMs?: number | undefined);
}
