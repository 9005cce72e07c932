// One subscription on a WebSocket of its own: what comes, bounded, and what became of it.

import * as api from "./api";
import * as key from "./key";
import * as link from "./link";

/** One line of a tail: an event as it came, or a notice of ours. */
export type Entry =
  | { kind: "event"; id: number; raw: string }
  | { kind: "notice"; id: number; text: string; isBad: boolean; at: string };

export type Phase = "off" | "connecting" | "live" | "waiting" | "over";

/** What is kept. Over either, the oldest goes. */
export const ENTRIES_MAX = 500;
export const CHARS_MAX = 4_000_000;

const RETRY_MS_MAX = 10_000;

interface Message {
  type: string;
  topic?: string;
  status?: string;
  msg?: string;
  epoch?: string;
  seq?: number;
  recovered?: boolean;
  request_id?: string;
  dropped?: number;
  retry_after_ms?: number;
  error?: { code: string; message: string };
}

export class Tail {
  readonly entries: Entry[] = [];
  phase: Phase = "off";
  received = 0;
  dropped = 0;
  private chars = 0;
  private numbers = 0;
  private socket: WebSocket | null = null;
  private timer: number | undefined;
  private failures = 0;
  private epoch: string | null = null;
  private newest: number | null = null;
  private retryAfterMs: number | null = null;
  private lastError: string | null = null;

  constructor(
    private readonly topic: string,
    private readonly onChange: () => void,
  ) {}

  start(lastN: number): void {
    this.stop();
    this.epoch = null;
    this.newest = null;
    this.connect(lastN);
  }

  stop(): void {
    window.clearTimeout(this.timer);
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
    this.turn("off");
  }

  clear(): void {
    this.entries.length = 0;
    this.chars = 0;
    this.onChange();
  }

  private turn(phase: Phase): void {
    this.phase = phase;
    this.onChange();
  }

  private connect(lastN: number): void {
    this.turn("connecting");
    this.retryAfterMs = null;
    this.lastError = null;
    const socket = new WebSocket(api.socketUrl());
    this.socket = socket;
    let hasOpened = false;
    socket.onopen = () => {
      hasOpened = true;
      const auth = key.auth();
      if (auth) socket.send(auth);
      const resume = this.epoch !== null && this.newest !== null;
      const from = resume ? { since: { epoch: this.epoch, seq: this.newest } } : { last_n: lastN };
      socket.send(JSON.stringify({ type: "subscribe", topic: this.topic, request_id: "tail", ...from }));
    };
    socket.onmessage = ({ data }) => {
      if (this.socket === socket && typeof data === "string") this.hear(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.lose(code, reason, hasOpened, lastN);
    };
  }

  private hear(raw: string): void {
    // Events are kept as they came, and read when they are shown: most of a fast topic never are.
    if (raw.startsWith('{"type":"event"')) {
      this.failures = 0;
      this.received += 1;
      const seq = /"seq":(\d+)}$/.exec(raw.slice(-30))?.[1];
      if (seq !== undefined) this.newest = Number(seq);
      this.put({ kind: "event", id: this.number(), raw });
      return;
    }
    const message = JSON.parse(raw) as Message;
    if (message.type === "ack" && message.request_id === "tail") {
      this.failures = 0;
      if (message.recovered === false) {
        const isOther = this.epoch !== message.epoch;
        const why = isOther ? "the topic is another one than it was" : "the history does not reach back that far";
        this.note(`Events may be missing: ${why}.`, true);
      }
      if (this.epoch !== message.epoch || this.newest === null) this.newest = message.seq ?? 0;
      this.epoch = message.epoch ?? null;
      this.turn("live");
    } else if (message.type === "info" && message.msg === "topic_deleted") {
      this.finish("The topic was deleted.");
    } else if (message.type === "info" && message.msg === "shutting_down") {
      link.change("draining");
      this.retryAfterMs = message.retry_after_ms ?? null;
      this.note("The server is shutting down.", true);
    } else if (message.error?.code === "SLOW_CONSUMER") {
      this.dropped += message.dropped ?? 0;
      this.note(`${message.error.message}: this page was too slow for them.`, true);
    } else if (message.error) {
      this.lastError = message.error.message;
      if (message.request_id === "tail" || message.error.code === "FORBIDDEN") this.finish(message.error.message);
    }
  }

  private lose(code: number, reason: string, hasOpened: boolean, lastN: number): void {
    // 1008: the key, or somebody who closed it. Coming back at once is not what they want.
    if (code === 1008) {
      this.finish(`The server has closed the connection: ${this.lastError ?? (reason || "code 1008")}.`);
      return;
    }
    this.failures += 1;
    if (!hasOpened && this.failures === 1 && link.current() === "live") {
      const hint = `Where ALLOWED_ORIGINS is set, it must have ${location.origin}.`;
      this.note(`The connection was refused. ${hint}`, true);
    } else if (hasOpened) {
      this.note(`The connection was lost (code ${code}${reason ? `, ${reason}` : ""}).`, true);
    }
    const pause = Math.min(RETRY_MS_MAX, 500 * 2 ** Math.min(this.failures, 6)) * (0.5 + Math.random() / 2);
    this.timer = window.setTimeout(() => this.connect(lastN), this.retryAfterMs ?? pause);
    this.turn("waiting");
  }

  private finish(text: string): void {
    const socket = this.socket;
    this.socket = null;
    socket?.close(1000);
    this.note(text, true);
    this.turn("over");
  }

  private note(text: string, isBad: boolean): void {
    this.put({ kind: "notice", id: this.number(), text, isBad, at: new Date().toISOString() });
  }

  private number(): number {
    this.numbers += 1;
    return this.numbers;
  }

  private put(entry: Entry): void {
    const length = (of: Entry): number => (of.kind === "event" ? of.raw.length : of.text.length);
    this.entries.push(entry);
    this.chars += length(entry);
    while (this.entries.length > 1 && (this.entries.length > ENTRIES_MAX || this.chars > CHARS_MAX)) {
      this.chars -= length(this.entries.shift()!);
    }
    this.onChange();
  }
}
