/** What the broker refused, or the client itself: `code` says what. */
export class ShardcastError extends Error {
  override name = "ShardcastError";

  constructor(
    /** One of the broker's codes, or `QUEUE_FULL`, `CONNECTION_LOST`, `CLOSED`, `UNSUPPORTED`. */
    readonly code: string,
    message: string,
    /** After how many milliseconds it would be taken, where the broker has said so. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }
}
