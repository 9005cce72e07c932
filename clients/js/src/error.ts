/** What the broker refused, or the client itself: `code` says what. */
export class ShardcastError extends Error {
  constructor(
    /** One of the broker's codes, or `QUEUE_FULL`, `CONNECTION_LOST` or `CLOSED`. */
    readonly code: string,
    message = code,
    /** After how many milliseconds it would be taken, where the broker has said so. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
    this.name = "ShardcastError";
  }
}
