// Who is connected, who lags and what they lost; and who has gone, and why.

import * as api from "../api";
import { el, name, say } from "../dom";
import * as format from "../format";
import * as link from "../link";
import { ConnectionTable, disconnect } from "./connection_table";
import { topicHash } from "./topic";
import { Trouble, fact, type View } from "./view";

export function connections(): View {
  const path = (query: string): string => `/connections?${query}`;
  const open = new ConnectionTable({ path, member: "connections", nobody: "Nobody is connected." });
  const closed = new ConnectionTable({ path, member: "connections", nobody: "Nobody has gone yet.", isClosed: true });
  const ends = [link.repeat(() => open.read(), 3000), link.repeat(() => closed.read(), 6000)];
  return {
    title: "Connections",
    element: el(
      "div",
      {},
      el("div", { class: "head" }, el("h1", { tabindex: -1 }, "Connections")),
      el(
        "section",
        { class: "panel", "aria-labelledby": "open" },
        el("header", {}, el("h2", { id: "open" }, "Open"), open.sorting),
        open.element,
      ),
      el(
        "section",
        { class: "panel", "aria-labelledby": "closed" },
        el("header", {}, el("h2", { id: "closed" }, "Ended, newest first")),
        closed.element,
      ),
    ),
    end: () => {
      for (const end of ends) end();
    },
  };
}

export function connection(id: string): View {
  const trouble = new Trouble();
  const heading = el("h1", { tabindex: -1 }, id);
  const words = [
    "Address", "Key", "Transport", "Connected", "Lag", "Dropped",
    "Published", "Events out", "Bytes in", "Bytes out", "Last write", "Subscriptions",
  ] as const;
  const values = words.map(() => el("span", {}, "–"));
  const topics = el("ul", { class: "names" });
  const none = el("p", { class: "muted" }, "None.");
  let last: api.Connection | null = null;

  const read = async (): Promise<void> => {
    try {
      const of = await api.get<api.Connection>(`/connections/${encodeURIComponent(id)}`);
      last = of;
      heading.replaceChildren(name(of.client_id));
      const texts = [
        of.address,
        of.key ?? "–",
        of.transport,
        `${format.ago(of.since)} ago`,
        of.lag.events > 0 ? `${format.plural(of.lag.events, "event")}, ${format.latency(of.lag.age_ms / 1000)}` : "none",
        format.count(of.dropped),
        format.count(of.events_in),
        format.count(of.events_out),
        format.bytes(of.bytes_in),
        format.bytes(of.bytes_out),
        of.last_write ? `${format.ago(of.last_write)} ago` : "never",
        format.count(of.subscriptions),
      ];
      texts.forEach((text, i) => say(values[i]!, text));
      values[5]!.classList.toggle("bad", of.dropped > 0);
      const names = of.topics ?? [];
      none.hidden = names.length > 0;
      // A pattern is no topic: there is nothing to go to.
      const shown = (topic: string): HTMLElement =>
        /[*>]/.test(topic) ? name(topic) : el("a", { href: topicHash(topic) }, name(topic));
      topics.replaceChildren(...names.map((topic) => el("li", {}, shown(topic))));
      trouble.clear();
    } catch (failed) {
      trouble.show(failed);
    }
  };
  const close = async (): Promise<void> => {
    if (last && (await disconnect(last))) location.hash = "#/connections";
  };
  return {
    title: "Connection",
    element: el(
      "div",
      {},
      el(
        "div",
        { class: "head" },
        el("div", {}, el("p", { class: "path" }, el("a", { href: "#/connections" }, "Connections")), heading),
        el("button", { type: "button", class: "danger", onclick: close }, "Disconnect"),
      ),
      trouble.element,
      el("dl", { class: "facts panel" }, ...words.map((word, i) => fact(word, values[i]!))),
      el(
        "section",
        { class: "panel", "aria-labelledby": "its-topics" },
        el("header", {}, el("h2", { id: "its-topics" }, "Subscribed to")),
        none,
        topics,
      ),
    ),
    end: link.repeat(read, 3000),
  };
}
