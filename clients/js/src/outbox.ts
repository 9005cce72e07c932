import { ShardcastError } from "./error.js";
import { bytesOf, type Message } from "./protocol.js";

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
  frame_: string;
  id_: string;
  bytes_: number;
  once_: boolean;
  sent_: boolean;
  done_: (receipt: Receipt) => void;
  failed_: (error: ShardcastError) => void;
}

/** Publishes under way at once; the broker reads no further beyond 1,024. */
const WINDOW_MAX = 512;

/** Pause after a refusal that says none, in milliseconds. */
const PAUSE_MS = 1000;

/**
 * What is published and not answered yet, in order. Bounded, and kept until the answer: what a cut
 * leaves without one is sent again. `send` says whether there is a connection.
 *
 * @internal
 */
export function outbox(countMax: number, bytesMax: number, send: (frame?: string) => unknown) {
  const postings = new Map<string, Posting>();
  let held = 0;
  let flying = 0;
  let window = WINDOW_MAX;
  let pause: ReturnType<typeof setTimeout> | undefined;

  function flush(): void {
    if (pause || !send()) return;
    for (const posting of postings.values()) {
      if (flying >= window) return;
      if (!posting.sent_) {
        posting.sent_ = true;
        flying++;
        send(posting.frame_);
      }
    }
  }

  /** Goes on at once: after a pause, or on a new connection. */
  function resume(): void {
    clearTimeout(pause);
    pause = undefined;
    flush();
  }

  function remove(request_id: string): Posting {
    const posting = postings.get(request_id)!;
    held -= posting.bytes_;
    postings.delete(request_id);
    return posting;
  }

  const refuse = (request_id: string, code: string, message?: string) =>
    remove(request_id).failed_(new ShardcastError(code, message));

  return {
    resume_: resume,

    post_(request_id: string, id_: string, frame_: string, once_: boolean): Promise<Receipt> {
      const bytes_ = bytesOf(frame_);
      if (postings.size >= countMax || held + bytes_ > bytesMax)
        throw new ShardcastError("QUEUE_FULL");
      held += bytes_;
      return new Promise((done_, failed_) => {
        postings.set(request_id, { frame_, id_, bytes_, once_, sent_: false, done_, failed_ });
        flush();
      });
    },

    answer_({ request_id = "", seq = 0, matched = 0, duplicate, error, retry_after_ms }: Message): void {
      const posting = postings.get(request_id);
      if (!posting) return;
      flying--;
      if (!error) {
        if (window < WINDOW_MAX) window++;
        remove(request_id).done_({ id: posting.id_, seq, matched, ...(duplicate && { duplicate }) });
      } else if (retry_after_ms! >= 0 || (error.code === "UNAVAILABLE" && posting.once_)) {
        // Nothing was done, or it is safe to repeat: later, and fewer at once.
        posting.sent_ = false;
        if (!pause) {
          window = Math.ceil(window / 2);
          pause = setTimeout(resume, retry_after_ms ?? PAUSE_MS);
        }
      } else refuse(request_id, error.code, error.message);
      flush();
    },

    /** The connection has ended, with this close code. */
    cut_(code?: number): void {
      flying = 0;
      const sent = [...postings].filter(([, { sent_ }]) => sent_);
      // A message was too long. It would be again, and if one of these was, the longest was.
      const longest = Math.max(...sent.map(([, { bytes_ }]) => bytes_));
      for (const [request_id, posting] of sent) {
        posting.sent_ = false;
        if (code === 1009 && posting.bytes_ === longest) refuse(request_id, "MESSAGE_TOO_LARGE");
        else if (!posting.once_) refuse(request_id, "CONNECTION_LOST");
      }
    },

    /** Gives all of it up. */
    end_({ code, message }: ShardcastError): void {
      clearTimeout(pause);
      for (const request_id of [...postings.keys()]) refuse(request_id, code, message);
    },
  };
}
