import { ShardcastError } from "./error.js";
import { ask, isOfAuth, proof, type Auth } from "./http.js";
import type { Link, Listener, Message, Position } from "./protocol.js";

/**
 * A link over HTTP: one event stream for all topics, and a POST for what is published.
 *
 * A subscribe is a read of the history, which is its ack and its replay; the stream then goes on
 * from there. It is opened anew, from the positions reached, whenever the topics change.
 */
export function openStream(base: string, auth: Auth, silenceMs: number, { opened_, heard_, ended_ }: Listener): Link {
  const life = new AbortController();
  const topics = new Map<string, Position & { wish: string }>();
  let posts: Promise<unknown> = Promise.resolve();
  let stream: AbortController | undefined;
  let restarting: ReturnType<typeof setTimeout> | undefined;
  let silence: ReturnType<typeof setTimeout> | undefined;

  function close(): void {
    life.abort();
    pause();
  }

  function fail(retryAfterMs?: number): void {
    close();
    ended_(0, retryAfterMs);
  }

  const get = (path: string, init: RequestInit = {}) =>
    ask(base + path, { signal: life.signal, headers: proof(auth), ...init });

  /** Asks for what a command wants, and tells of its answer or refusal. */
  async function call(request_id: string, path: string, init?: RequestInit): Promise<any> {
    try {
      const answer = await (await get(path, init)).json();
      heard_({ ...answer, type: "ack", request_id });
      return answer;
    } catch (error) {
      // A new link will show whether there is a better token.
      if (!(error instanceof ShardcastError) || isOfAuth(error.code)) fail();
      else heard_({ type: "error", request_id, error, retry_after_ms: error.retryAfterMs });
    }
  }

  function pause(): void {
    stream?.abort();
    [restarting, silence].forEach(clearTimeout);
  }

  function restart(): void {
    pause();
    restarting = setTimeout(listen);
  }

  async function listen(): Promise<void> {
    if (!topics.size) return;
    const { signal } = (stream = new AbortController());
    const names = new URLSearchParams([...topics.keys()].map((name) => ["topic", name]));
    const places = [...topics.values()].map(({ epoch, seq }) => epoch + ":" + seq);
    // A stream has one policy for all its topics: where they want several, all events are to come.
    const [wish, other] = new Set([...topics.values()].map(({ wish }) => wish));
    try {
      const reader = (await get(`/events?${names}&since=${places}${other ? "" : wish}`, { signal })).body!.getReader();
      const text = new TextDecoder();
      let rest = "";
      let data = "";
      for (;;) {
        clearTimeout(silence);
        silence = setTimeout(fail, silenceMs);
        const { done, value } = await reader.read();
        if (done) throw done; // An end is as bad as any error.
        const lines = (rest + text.decode(value, { stream: true })).split("\n");
        rest = lines.pop()!;
        for (const line of lines)
          if (signal.aborted) return;
          else if (line.startsWith("data:")) data += line.slice(5);
          else if (!line && data) {
            take(JSON.parse(data));
            data = "";
          }
      }
    } catch (error) {
      if (!signal.aborted) fail((error as ShardcastError).retryAfterMs);
    }
  }

  function take(message: Message): void {
    const { type, topic = "", seq, msg, positions = { [topic]: message as Position } } = message;
    const place = topics.get(topic);
    if (type === "event" && place) place.seq = seq!;
    // It has become another topic since its history was read: that is to be read again.
    if (type === "ack" && [...topics].some(([name, { epoch }]) => positions[name]?.epoch !== epoch)) return fail();
    if (msg === "topic_deleted" && topics.delete(topic)) restart();
    heard_(message);
  }

  // Nothing here keeps a connection: this tells whether the broker is there and takes the key. It
  // looks at the key first, so whatever it says of this topic, it is content.
  get("/topics/-")
    .catch((error) => {
      if (isOfAuth(error.code)) heard_({ type: "error", request_id: "auth", error });
      if (!/TOPIC_|FORB/.test(error.code)) throw error;
    })
    .then(
      opened_,
      (error) => fail(error.retryAfterMs),
    );

  return {
    close,
    send(frame) {
      const { type, topic, request_id, since, last_n = 0, message, ...more } = JSON.parse(frame);
      const history = `/topics/${encodeURIComponent(topic)}/messages`;
      if (type === "subscribe")
        // The broker refuses a pattern here.
        call(request_id, `${history}?${since ? `since=${since.epoch}:${since.seq}` : "last=" + last_n}`).then((read) => {
          if (!read) return;
          read.messages.forEach(heard_);
          // The stream may have come less far than what was read, or further: all are to miss nothing.
          const place = topics.get(topic);
          const { epoch, seq } = place?.epoch === read.epoch && place!.seq <= read.seq ? place! : read;
          topics.set(topic, { epoch, seq, wish: "&" + new URLSearchParams(more) });
          restart();
        });
      else if (type === "publish")
        // One after the other, so that their order stays.
        posts = posts.then(() => call(request_id, history, { method: "POST", body: JSON.stringify(message) }));
      else if (type === "ping") call(request_id, "/health");
      else if (type === "auth") {
        auth = more;
        restart();
      } else if (topics.delete(topic)) restart();
    },
  };
}
