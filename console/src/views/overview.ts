// What the broker does right now, and did in the last minutes.

import { el, say } from "../dom";
import type { History, Sample } from "../figures";
import { PERIOD_MS } from "../figures";
import * as format from "../format";
import { Plot } from "../plot";
import { Trouble, type View } from "./view";

const RANGES = [2, 5, 15];
let minutes = 5;

/** The share of `all` that `part` is, as a bar. */
function bar(part: number, all: number): HTMLElement {
  const share = all > 0 ? (100 * part) / all : 0;
  const fill = el("div", { class: "bar-fill" });
  fill.style.width = `${share}%`;
  return el("div", { class: "bar-back" }, fill, el("span", { class: "unseen" }, `${share.toFixed(1)} %`));
}

/** A tile: a figure that is read from afar, and what stands beside it. */
class Tile {
  private readonly figure = el("dd", { class: "figure" }, "–");
  private readonly beside = el("dd", { class: "beside" });
  readonly element: HTMLElement;

  constructor(label: string) {
    this.element = el("div", { class: "tile" }, el("dt", {}, label), this.figure, this.beside);
  }

  show(figure: string, beside = "", isBad = false): void {
    say(this.figure, figure);
    say(this.beside, beside);
    this.element.classList.toggle("bad", isBad);
  }
}

export function overview(history: History, whenRead: (listener: (failed?: unknown) => void) => () => void): View {
  const tiles = {
    messages: new Tile("Messages in"),
    delivered: new Tile("Events out"),
    dropped: new Tile("Dropped"),
    latency: new Tile("Delivery, median"),
    connections: new Tile("Connections"),
    topics: new Tile("Topics"),
    memory: new Tile("Kept for clients"),
    process: new Tile("Processor"),
  };
  const plots: [Plot, (keyof Sample)[]][] = [
    [
      new Plot(
        "Throughput",
        [{ label: "in", color: "blue" }, { label: "out", color: "teal", isFilled: true }],
        (n) => `${format.compact(n)}/s`,
      ),
      ["messages", "delivered"],
    ],
    [
      new Plot("Delivery latency", [{ label: "p50", color: "blue" }, { label: "p99", color: "amber" }], format.latency),
      ["p50", "p99"],
    ],
    [
      new Plot("Losses", [{ label: "dropped", color: "red", isFilled: true }], (n) => `${format.compact(n)}/s`),
      ["dropped"],
    ],
    [
      new Plot(
        "Who is there",
        [{ label: "connections", color: "blue" }, { label: "subscribed", color: "teal" }],
        format.compact,
      ),
      ["connections", "subscribers"],
    ],
  ];
  const memory = el("tbody");
  const uptime = el("p", { class: "muted" });
  const trouble = new Trouble();

  const range = el(
    "select",
    {
      id: "range",
      onchange: () => {
        minutes = Number(range.value);
        draw();
      },
    },
    ...RANGES.map((n) => el("option", { value: n, selected: n === minutes }, `${n} minutes`)),
  );
  const element = el(
    "div",
    {},
    el(
      "div",
      { class: "head" },
      el("div", {}, el("h1", { tabindex: -1 }, "Overview"), uptime),
      el("div", { class: "row" }, el("label", { for: "range" }, "Last"), range),
    ),
    trouble.element,
    el("dl", { class: "tiles" }, ...Object.values(tiles).map((tile) => tile.element)),
    el("div", { class: "plots" }, ...plots.map(([plot]) => plot.element)),
    el(
      "section",
      { class: "panel" },
      el("header", {}, el("h2", {}, "Memory kept for clients")),
      el(
        "table",
        { class: "bars" },
        el("caption", { class: "unseen" }, "Memory by kind"),
        el(
          "thead",
          { class: "unseen" },
          el("tr", {}, el("th", { scope: "col" }, "Kind"), el("th", { scope: "col" }, "Share"), el("th", { scope: "col" }, "Bytes")),
        ),
        memory,
      ),
    ),
  );

  const draw = (): void => {
    const reading = history.last;
    const now = history.samples.at(-1);
    if (!reading || !now) return;
    const value = (name: string): number => reading.value.get(name) ?? 0;
    const rate = (n: number | null): string => (n === null ? "–" : `${format.compact(n)}/s`);
    const perSecond = (n: number | null): string => (n === null ? "" : `${format.bytes(n)}/s`);
    const of = (n: number, all: number): string => (all > 0 ? `${((100 * n) / all).toFixed(1)} %` : "–");
    tiles.messages.show(rate(now.messages), perSecond(now.bytesIn));
    tiles.delivered.show(rate(now.delivered), perSecond(now.bytesOut));
    const droppedTotal = value("shardcast_events_dropped_total");
    tiles.dropped.show(rate(now.dropped), `${format.count(droppedTotal)} since the start`, (now.dropped ?? 0) > 0);
    tiles.latency.show(
      now.p50 === null ? "–" : format.latency(now.p50),
      now.p99 === null ? "nothing delivered" : `p99 ${format.latency(now.p99)}`,
    );
    tiles.connections.show(format.count(now.connections ?? 0), `${format.count(now.subscribers ?? 0)} subscribed`);
    tiles.topics.show(format.count(value("shardcast_topics")), `${format.count(now.queued ?? 0)} events waiting`);
    const kinds = [...reading.value]
      .map(([name, bytes]) => [/^shardcast_memory_bytes\{kind="(.*)"}$/.exec(name)?.[1], bytes] as const)
      .filter((row): row is [string, number] => row[0] !== undefined);
    const kept = kinds.reduce((sum, [, bytes]) => sum + bytes, 0);
    const budget = value("shardcast_memory_budget_bytes");
    tiles.memory.show(format.bytes(kept), `${of(kept, budget)} of ${format.bytes(budget)}`, budget > 0 && kept > 0.9 * budget);
    const shards = value("shardcast_shards");
    tiles.process.show(
      now.cpu === null ? "–" : `${(100 * now.cpu).toFixed(now.cpu < 0.1 ? 1 : 0)} %`,
      `${format.plural(shards, "shard")}, ${format.bytes(now.resident ?? 0)}`,
    );
    const version = [...reading.value.keys()].find((name) => name.startsWith("shardcast_build_info"));
    const number = /version="([^"]*)"/.exec(version ?? "")?.[1] ?? "";
    say(uptime, `shardcast ${number}, up for ${format.duration(value("shardcast_uptime_seconds"))}`);
    memory.replaceChildren(
      ...kinds.map(([kind, bytes]) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, kind),
          el("td", { class: "share" }, bar(bytes, kept)),
          el("td", { class: "number" }, format.bytes(bytes)),
        ),
      ),
    );
    drawPlots(now.at);
  };

  const drawPlots = (now: number): void => {
    const begin = now - minutes * 60_000;
    const shown = history.samples.filter((sample) => sample.at >= begin);
    // Where nobody has looked, there is no line.
    const withGaps = shown.flatMap((sample, i) => {
      const before = shown[i - 1];
      return before && sample.at - before.at > 3 * PERIOD_MS ? [{ at: before.at + PERIOD_MS } as Sample, sample] : [sample];
    });
    const times = withGaps.map((sample) => sample.at / 1000);
    for (const [plot, lines] of plots) {
      const values = lines.map((line) => withGaps.map((sample) => sample[line] ?? null));
      plot.draw(times, values, [begin / 1000, now / 1000]);
    }
  };

  const unwatch = whenRead((failed) => {
    if (failed) trouble.show(failed);
    else {
      trouble.clear();
      draw();
    }
  });
  requestAnimationFrame(draw);
  return {
    title: "Overview",
    element,
    end: () => {
      unwatch();
      for (const [plot] of plots) plot.end();
    },
  };
}
