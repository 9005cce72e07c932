import { ShardcastError } from "./error.js";
import { ask, refuse } from "./http.js";
import { isPattern } from "./pattern.js";
import type { Link, Listener, Message, Position } from "./protocol.js";

/** Messages of one topic that are posted together. */
const POST_MAX = 100;

interface Publish {
  topic: string;
  message: unknown;
  request_id: string;
}

/** The headers that prove who asks. */
export function credentials(auth?: { api_key?: string; token?: string }): Record<string, string> {
  if (auth?.token) return { authorization: `Bearer ${auth.token}` };
  return auth?.api_key ? { "x-api-key": auth.api_key } : {};
}

/**
 * A link over HTTP: one event stream for all topics, and a POST for what is published.
 *
 * A subscribe is a read of the history, which is its ack and its replay; the stream then goes on
 * from there. It is opened anew, from the positions reached, whenever the topics change.
 */
export function openStream(
  base: string,
  headers: Record<string, string>,
  silenceMs: number,
  listener: Listener,
): Link {
  const life = new AbortController();
  const topics = new Map<string, Position>();
  const posts: Publish[] = [];
  let stream: AbortController | undefined;
  let restarting: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;
  let posting = false;

  const close = (): void => {
    life.abort();
    stream?.abort();
    clearTimeout(restarting);
    clearTimeout(silence);
  };
  const fail = (retryAfterMs?: number): void => {
    if (life.signal.aborted) return;
    close();
    listener.ended_(undefined, retryAfterMs);
  };
  const heard = (message: Message): void => {
    if (!life.signal.aborted) listener.heard_(message);
  };

  /** Asks, and says to `request_id` what was refused. */
  async function call(request_id: string, path: string, init?: RequestInit): Promise<any> {
    try {
      return await ask(base + path, { headers, signal: life.signal, ...init });
    } catch (error) {
      if (!(error instanceof ShardcastError)) return fail();
      heard({ type: "error", request_id, error, retry_after_ms: error.retryAfterMs });
    }
  }

  const history = (topic: string): string => `/topics/${encodeURIComponent(topic)}/messages`;

  async function subscribe(topic: string, request_id: string, since?: Position, last = 0): Promise<void> {
    if (isPattern(topic)) {
      const error = { code: "UNSUPPORTED", message: "patterns need a WebSocket" };
      return heard({ type: "error", request_id, error });
    }
    const from = since ? `since=${since.epoch}:${since.seq}` : `last=${last}`;
    const read = await call(request_id, `${history(topic)}?${from}`);
    if (!read) return;
    heard({ ...read, type: "ack", request_id });
    read.messages.forEach(heard);
    topics.set(topic, { epoch: read.epoch, seq: read.seq });
    restart();
  }

  /** Posts one after the other, so that their order stays: what waits for the same topic together. */
  async function post(): Promise<void> {
    posting = true;
    let most = POST_MAX;
    while (posts[0] && !life.signal.aborted) {
      const other = posts.findIndex(({ topic }) => topic !== posts[0]!.topic);
      const batch = posts.slice(0, Math.min(most, other < 0 ? most : other));
      const body = JSON.stringify(batch.map(({ message }) => message));
      try {
        const init = { method: "POST", body, headers, signal: life.signal };
        const { messages } = await ask(base + history(batch[0]!.topic), init);
        batch.forEach(({ request_id }, at) => heard({ ...messages[at], type: "ack", request_id }));
      } catch (error) {
        if (!(error instanceof ShardcastError)) return fail();
        // All or none: none was published, so each is asked for alone to see which is at fault.
        if (batch.length > 1) {
          most = 1;
          continue;
        }
        heard({ type: "error", request_id: batch[0]!.request_id, error, retry_after_ms: error.retryAfterMs });
      }
      posts.splice(0, batch.length);
    }
    posting = false;
  }

  function restart(): void {
    stream?.abort();
    clearTimeout(silence);
    clearTimeout(restarting);
    restarting = setTimeout(listen);
  }

  async function listen(): Promise<void> {
    if (!topics.size) return;
    const { signal } = (stream = new AbortController());
    const names = [...topics.keys()].map((name) => `topic=${encodeURIComponent(name)}`);
    const places = [...topics.values()].map(({ epoch, seq }) => `${epoch}:${seq}`);
    try {
      const response = await fetch(`${base}/events?${names.join("&")}&since=${places}`, {
        headers: { ...headers, accept: "text/event-stream" },
        cache: "no-store",
        signal,
      });
      await refuse(response);
      const reader = response.body!.getReader();
      const text = new TextDecoder();
      let rest = "";
      let data = "";
      for (;;) {
        clearTimeout(silence);
        silence = setTimeout(fail, silenceMs);
        const { done, value } = await reader.read();
        if (signal.aborted) return;
        if (done) return fail();
        const lines = (rest + text.decode(value, { stream: true })).split("\n");
        rest = lines.pop()!;
        for (const line of lines) {
          if (line.startsWith("data:")) data += line.slice(5) + "\n";
          else if (!line && data) {
            take(JSON.parse(data));
            data = "";
            if (signal.aborted) return;
          }
        }
      }
    } catch (error) {
      if (!signal.aborted) fail((error as ShardcastError).retryAfterMs);
    }
  }

  function take(message: Message): void {
    const { type, topic = "", seq = 0, msg } = message;
    const place = topics.get(topic);
    if (type === "event" && place) place.seq = seq;
    if (type === "ack") {
      // A topic that is another one by now is sent from its beginning.
      const places = Object.entries(message.positions ?? { [topic]: message as Position });
      for (const [name, { epoch }] of places)
        if (topics.has(name) && topics.get(name)!.epoch !== epoch) topics.set(name, { epoch, seq: 0 });
    }
    if (msg === "topic_deleted" && topics.delete(topic)) restart();
    heard(message);
  }

  // Nothing here keeps a connection: this tells whether the broker is there and takes the key.
  // Whatever it says of a topic that has no such name, it has looked at the key before.
  ask(`${base}/topics/-`, { headers, signal: life.signal })
    .catch((error) => {
      if (!(error instanceof ShardcastError) || error.code === "UNAVAILABLE") throw error;
      if (error.code !== "TOPIC_NOT_FOUND" && error.code !== "FORBIDDEN") {
        heard({ type: "error", request_id: "auth", error });
        throw error;
      }
    })
    .then(
      () => life.signal.aborted || listener.opened_(),
      (error) => fail(error.retryAfterMs),
    );

  return {
    close,
    send(frame) {
      const { type, topic, request_id, since, last_n, message, ...auth } = JSON.parse(frame);
      if (type === "subscribe") subscribe(topic, request_id, since, last_n);
      if (type === "unsubscribe" && topics.delete(topic)) restart();
      if (type === "publish") {
        posts.push({ topic, message, request_id });
        if (!posting) post();
      }
      if (type === "ping") call(request_id, "/health").then((alive) => alive && heard({ type: "pong", request_id }));
      if (type === "auth") {
        headers = credentials(auth);
        restart();
        heard({ type: "ack", request_id });
      }
    },
  };
}
