import { ShardcastError } from "./error.js";
import { isPattern, matches } from "./pattern.js";
import { bytesOf, nextId, type Message, type Position } from "./protocol.js";
import { subscription, type Internal, type SubscribeOptions } from "./subscription.js";

/** Longest command, in bytes, that a broker with its default settings takes. */
const FRAME_MAX = 65_536;

/**
 * All subscriptions of a client. Asks for them on each connection, and gives each what is for it.
 *
 * `send` says whether there is a connection; `pause` how long to wait after so many refusals.
 */
export function subscriptions(
  send: (command?: object) => unknown,
  pause: (tries: number) => number,
) {
  const topics = new Map<string, Set<Internal>>();
  const asked = new Map<string, (answer: Message) => unknown>();

  const all = () => [...topics.values()].flatMap((same) => [...same]);
  const patterns = new Set<Internal>();

  const open = () => all().forEach(ask);

  function subscribe(topic: string, options: SubscribeOptions<any>): Internal {
    const made = subscription(topic, options, (state) => {
      const same = topics.get(topic)!;
      same.delete(made);
      patterns.delete(made);
      if (same.size) return;
      topics.delete(topic);
      if (state === "ended") release(topic);
    });
    topics.set(topic, (topics.get(topic) ?? new Set()).add(made));
    if (isPattern(topic)) patterns.add(made);
    ask(made);
    return made;
  }

  function release(topic: string): void {
    const request_id = nextId();
    if (topics.has(topic) || !send({ type: "unsubscribe", topic, request_id })) return;
    // Refused by a rate, it would go on.
    asked.set(request_id, ({ retry_after_ms }) => retry_after_ms! >= 0 && setTimeout(release, retry_after_ms, topic));
  }

  function ask(subscription: Internal): void {
    const { topic_: topic, cursor_, resumes_, options_, isOver_ } = subscription;
    if (isOver_() || !send()) return;
    const { last = 0, policy, maxRate } = options_;
    const places = cursor_.positions_();
    const many = isPattern(topic);
    const request_id = nextId();
    const command = {
      type: "subscribe",
      topic,
      last_n: (!resumes_ && last) || undefined,
      since: many ? undefined : places[topic],
      positions: many ? !resumes_ || places : undefined,
      policy,
      max_rate: maxRate,
      request_id,
    };
    // More positions than a command has room for are not asked for: what was missed is told.
    const leap = bytesOf(JSON.stringify(command)) > FRAME_MAX;
    if (leap) command.positions = true;
    asked.set(request_id, (answer) => {
      const { error, positions, recovered, retry_after_ms } = answer;
      if (isOver_()) return;
      if (error) {
        const refusal = new ShardcastError(error.code, error.message, retry_after_ms);
        // One that was there before is worth waiting for.
        if (retry_after_ms! >= 0 || (resumes_ ? error.code !== "FORBIDDEN" : /^UNAV|^INT/.test(error.code))) wait(subscription, refusal);
        else subscription.finish_("failed", refusal);
        return;
      }
      const found = positions ?? (many ? {} : { [topic]: answer as Position });
      for (const [name, { epoch, seq }] of Object.entries(found)) {
        cursor_.start_(name, epoch, resumes_ ? 0 : Math.max(0, seq - last), resumes_ ? 0 : seq, leap || recovered === false);
        if (leap) {
          const place = cursor_.pass_(name, seq + 1);
          if (place) place.seq--;
        }
      }
      if (positions)
        for (const name in places)
          if (!found[name]) {
            // It is there no more, and what it had at last nobody knows.
            cursor_.start_(name, "", 0, 0, true);
            cursor_.forget_(name);
          }
      subscription.resumes_ = true;
      subscription.tries_ = 0;
      subscription.turn_("live");
    });
    send(command);
  }

  function wait(subscription: Internal, error: ShardcastError): void {
    subscription.turn_("waiting", error);
    clearTimeout(subscription.retry_);
    if (!subscription.isOver_())
      subscription.retry_ = setTimeout(() => ask(subscription), error.retryAfterMs ?? pause(subscription.tries_++));
  }

  return {
    subscribe_: subscribe,

    open_: open,

    cut_(): void {
      asked.clear();
      for (const subscription of all()) {
        clearTimeout(subscription.retry_);
        subscription.turn_("pending");
      }
    },

    end_(error?: ShardcastError): void {
      for (const subscription of all()) subscription.finish_(error ? "failed" : "ended", error);
    },

    /** Whether the message was for one of these. */
    take_(message: Message): boolean {
      const { type, topic = "", request_id = "", error, msg, epoch = "" } = message;
      const answered = asked.get(request_id);
      asked.delete(request_id);
      if (answered) answered(message);
      else if (type === "event") {
        for (const subscription of topics.get(topic) ?? []) subscription.take_(message);
        for (const subscription of patterns) subscription.take_(message);
      } else if (msg === "topic_created") {
        for (const { topic_: pattern, cursor_ } of patterns)
          if (matches(pattern, topic)) cursor_.start_(topic, epoch, 0, 0, false);
      } else if (msg === "topic_deleted") {
        for (const subscription of topics.get(topic) ?? [])
          wait(subscription, new ShardcastError("TOPIC_NOT_FOUND"));
        for (const { cursor_ } of patterns) cursor_.forget_(topic);
      } else if (error?.code === "FORBIDDEN" && !request_id)
        // Rights have changed. Which topic it is, is only said in words, so all are asked for again.
        open();
      else return false;
      return true;
    },
  };
}
