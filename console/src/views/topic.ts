// One topic: its figures, what is published to it while one looks, and who gets it.

import * as api from "../api";
import { el, name, say } from "../dom";
import * as format from "../format";
import * as link from "../link";
import { confirm, tell } from "../notices";
import { ConnectionTable } from "./connection_table";
import { publisher } from "./publisher";
import { tailPanel } from "./tail_panel";
import { Trouble, fact, type View } from "./view";

export const topicHash = (topic: string): string => `#/topics/${encodeURIComponent(topic)}`;

/** Asks, deletes, and says so. */
export async function deleteTopic(topic: string): Promise<boolean> {
  const isSure = await confirm({
    title: "Delete this topic?",
    text: [name(topic), " goes with its history. Its subscribers are told, and get nothing of it any more."],
    go: "Delete topic",
  });
  if (!isSure) return false;
  try {
    await api.remove(api.topicPath(topic));
    tell(`Topic ${topic} deleted.`);
    return true;
  } catch (failed) {
    tell(`Not deleted: ${api.words(failed)}`, "bad");
    return false;
  }
}

export function topic(of: string): View {
  const trouble = new Trouble();
  const words = ["Subscribers", "Messages/s", "Messages", "Dropped", "Kept", "Kept bytes", "Created", "Epoch"] as const;
  const values = words.map(() => el("span", {}, "–"));
  const facts = el("dl", { class: "facts panel" }, ...words.map((word, i) => fact(word, values[i]!)));

  let before: api.Topic | null = null;
  let beforeAt = 0;
  const read = async (): Promise<void> => {
    try {
      const now = await api.get<api.Topic>(api.topicPath(of));
      const at = performance.now();
      const isSame = before?.epoch === now.epoch;
      const rate = isSame && before ? ((now.messages - before.messages) * 1000) / (at - beforeAt) : null;
      const texts = [
        format.count(now.subscribers),
        rate === null ? "–" : format.compact(rate),
        format.count(now.messages),
        format.count(now.dropped),
        format.count(now.kept),
        format.bytes(now.bytes),
        `${format.ago(now.created)} ago`,
        now.epoch,
      ];
      texts.forEach((text, i) => say(values[i]!, text));
      values[3]!.classList.toggle("bad", now.dropped > 0);
      before = now;
      beforeAt = at;
      trouble.clear();
    } catch (failed) {
      trouble.show(failed);
    }
  };

  const connections = new ConnectionTable({
    path: (query) => `${api.topicPath(of)}/subscribers?${query}`,
    member: "subscribers",
    nobody: "Nobody is subscribed.",
  });
  const remove = async (): Promise<void> => {
    if (await deleteTopic(of)) location.hash = "#/topics";
  };
  const tail = tailPanel(of);
  const ends = [link.repeat(read, 2000), link.repeat(() => connections.read(), 4000), tail.end];
  return {
    title: of,
    element: el(
      "div",
      {},
      el(
        "div",
        { class: "head" },
        el(
          "div",
          {},
          el("p", { class: "path" }, el("a", { href: "#/topics" }, "Topics")),
          el("h1", { tabindex: -1 }, name(of)),
        ),
        el("button", { type: "button", class: "danger", onclick: remove }, "Delete topic"),
      ),
      trouble.element,
      facts,
      el("div", { class: "split" }, tail.element, publisher(of)),
      el(
        "section",
        { class: "panel", "aria-labelledby": "subscribers" },
        el("header", {}, el("h2", { id: "subscribers" }, "Subscribers"), connections.sorting),
        connections.element,
      ),
    ),
    end: () => {
      for (const end of ends) end();
    },
  };
}
