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

interface Posting {
  frame: string;
  id: string;
  bytes: number;
  once: boolean;
  sent: boolean;
  resolve: (receipt: Receipt) => void;
  reject: (error: ShardcastError) => void;
}

/** Publishes under way at once; the broker reads no further beyond 1,024. */
const WINDOW_MAX = 512;

/** Pause after a refusal that says none, in milliseconds. */
const PAUSE_MS = 1000;

/**
 * What is published and not answered yet, in order. Bounded, and kept until the answer: what a cut
 * leaves without one is sent again.
 */
export class Outbox {
  #postings = new Map<string, Posting>();
  #bytes = 0;
  #flying = 0;
  #window = WINDOW_MAX;
  #pause?: ReturnType<typeof setTimeout>;

  /** `send` is there while there is a connection. */
  constructor(
    private readonly countMax_: number,
    private readonly bytesMax_: number,
    private readonly send_: () => ((frame: string) => void) | undefined,
  ) {}

  post_(request_id: string, id: string, frame: string, once: boolean): Promise<Receipt> {
    const bytes = new TextEncoder().encode(frame).length;
    if (this.#postings.size >= this.countMax_ || this.#bytes + bytes > this.bytesMax_)
      throw new ShardcastError("QUEUE_FULL", "too much is published and not answered yet");
    this.#bytes += bytes;
    return new Promise((resolve, reject) => {
      this.#postings.set(request_id, { frame, id, bytes, once, sent: false, resolve, reject });
      this.flush_();
    });
  }

  flush_(): void {
    const send = this.send_();
    if (!send || this.#pause) return;
    for (const posting of this.#postings.values()) {
      if (this.#flying >= this.#window) return;
      if (!posting.sent) {
        posting.sent = true;
        this.#flying++;
        send(posting.frame);
      }
    }
  }

  /** Whether the message was the answer to one of these. */
  answer_({ type, request_id = "", seq = 0, matched = 0, duplicate, error, retry_after_ms }: Message): boolean {
    const posting = this.#postings.get(request_id);
    if (!posting) return false;
    this.#flying--;
    if (type === "ack") {
      this.#window = Math.min(WINDOW_MAX, this.#window + 1);
      posting.resolve({ id: posting.id, seq, matched, ...(duplicate && { duplicate }) });
      this.#forget(request_id);
    } else if (retry_after_ms !== undefined || (error!.code === "UNAVAILABLE" && posting.once)) {
      // Nothing was done, or it is safe to repeat: later, and fewer at once.
      posting.sent = false;
      if (!this.#pause) {
        this.#window = Math.ceil(this.#window / 2);
        this.#pause = setTimeout(() => this.resume_(), retry_after_ms ?? PAUSE_MS);
      }
    } else this.#refuse(request_id, new ShardcastError(error!.code, error!.message));
    this.flush_();
    return true;
  }

  /** Goes on at once: after a pause, or on a new connection. */
  resume_(): void {
    clearTimeout(this.#pause);
    this.#pause = undefined;
    this.flush_();
  }

  /** The connection has ended, with this close code. */
  cut_(code?: number): void {
    this.#flying = 0;
    const sent = [...this.#postings].filter(([, { sent }]) => sent);
    // A message was too long. It would be again, and if one of these was, the longest was.
    const longest = code === 1009 && sent.sort(([, a], [, b]) => b.bytes - a.bytes)[0];
    if (longest) this.#refuse(longest[0], new ShardcastError("MESSAGE_TOO_LARGE", "longer than the broker takes"));
    for (const [request_id, posting] of sent) {
      posting.sent = false;
      if (!posting.once) this.#refuse(request_id, new ShardcastError("CONNECTION_LOST", "it may have been published or not"));
    }
  }

  /** Gives all of it up. */
  end_(error: ShardcastError): void {
    clearTimeout(this.#pause);
    for (const request_id of [...this.#postings.keys()]) this.#refuse(request_id, error);
  }

  #refuse(request_id: string, error: ShardcastError): void {
    this.#postings.get(request_id)?.reject(error);
    this.#forget(request_id);
  }

  #forget(request_id: string): void {
    this.#bytes -= this.#postings.get(request_id)?.bytes ?? 0;
    this.#postings.delete(request_id);
  }
}
