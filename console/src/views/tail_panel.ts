// A topic as it happens. What comes faster than anybody reads is counted, and only the newest shown.

import { el, say, set } from "../dom";
import * as format from "../format";
import { member, setOut } from "../json";
import { ENTRIES_MAX, Tail, type Entry, type Phase } from "../tail";

const DRAW_MS = 250;
const TELL_MS = 10_000;

/** Characters of a payload that are shown before somebody asks for more. */
const SHOWN_MAX = 3000;

/** And then: a browser is no editor. */
const SHOWN_ALL_MAX = 300_000;

const PHASES: Record<Phase, string> = {
  off: "Off",
  connecting: "Connecting…",
  live: "Live",
  waiting: "Trying again…",
  over: "Ended",
};

export function tailPanel(topic: string): { element: HTMLElement; end(): void } {
  let isPaused = false;
  let isCompact = false;
  let filter = "";
  let seenUpTo = 0;
  let toldUpTo = 0;
  let timer: number | undefined;
  let shown: Entry[] = [];
  const elements = new Map<number, HTMLElement>();

  const state = el("span", { class: "pill", role: "status" }, "Off");
  const counts = el("p", { class: "muted counts" });
  const spoken = el("p", { class: "unseen", "aria-live": "polite" });
  const list = el("ol", { class: "events" });
  const empty = el("p", { class: "muted empty" }, "Nothing has come yet.");
  const scroll = el("div", { class: "tail", role: "region", tabindex: 0, "aria-label": `Events of ${topic}, newest first` }, empty, list);

  const tail = new Tail(topic, () => {
    timer ??= window.setTimeout(() => {
      timer = undefined;
      draw();
    }, DRAW_MS);
  });

  const begin = el(
    "select",
    { id: "tail-from" },
    el("option", { value: 0 }, "now on"),
    el("option", { value: 10, selected: true }, "the last 10"),
    el("option", { value: ENTRIES_MAX }, `the last ${ENTRIES_MAX}`),
  );
  const onOff = el("button", {
    type: "button",
    onclick: () => {
      if (isOn()) tail.stop();
      else start();
    },
  });
  const pause = el("button", {
    type: "button",
    "aria-pressed": "false",
    onclick: () => {
      isPaused = !isPaused;
      set(pause, "aria-pressed", String(isPaused));
      if (isPaused) seenUpTo = tail.received;
      draw();
    },
  }, "Pause");
  const clear = el("button", { type: "button", onclick: () => ((shown = []), tail.clear(), draw()) }, "Clear");
  const compact = el("input", {
    type: "checkbox",
    id: "compact",
    onchange: () => {
      isCompact = compact.checked;
      elements.clear();
      list.replaceChildren();
      draw();
    },
  });
  const search = el("input", {
    type: "search",
    id: "tail-filter",
    placeholder: "text in it",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      filter = search.value;
      draw();
    },
  });

  const isOn = (): boolean => tail.phase !== "off" && tail.phase !== "over";

  function start(): void {
    shown = [];
    tail.clear();
    tail.start(Number(begin.value));
  }

  function draw(): void {
    if (!isPaused) shown = tail.entries.slice();
    say(state, isPaused && tail.phase === "live" ? "Paused" : PHASES[tail.phase]);
    state.className = `pill ${isPaused ? "paused" : tail.phase}`;
    say(onOff, isOn() ? "Stop" : "Start");
    pause.disabled = tail.phase === "off";
    const parts = [format.plural(tail.received, "event")];
    if (tail.received > ENTRIES_MAX) parts.push(`the newest ${ENTRIES_MAX} kept`);
    if (isPaused) parts.push(`${format.count(tail.received - seenUpTo)} since the pause`);
    if (tail.dropped > 0) parts.push(`${format.count(tail.dropped)} dropped for this page`);
    say(counts, parts.join(" · "));
    const wanted = filter ? shown.filter((entry) => entry.kind === "notice" || entry.raw.includes(filter)) : shown;
    empty.hidden = wanted.length > 0;
    say(empty, filter && shown.length > 0 ? "None of them has that in it." : "Nothing has come yet.");
    arrange(wanted);
  }

  /** Newest first. What stays is not touched, so that what somebody has selected stays selected. */
  function arrange(wanted: Entry[]): void {
    const ids = new Set(wanted.map((entry) => entry.id));
    for (const [id, element] of elements) {
      if (ids.has(id)) continue;
      element.remove();
      elements.delete(id);
    }
    let place = list.firstElementChild;
    for (let i = wanted.length - 1; i >= 0; i -= 1) {
      const entry = wanted[i]!;
      const known = elements.get(entry.id);
      const element = known ?? make(entry);
      if (element === place) {
        place = place.nextElementSibling;
        continue;
      }
      elements.set(entry.id, element);
      list.insertBefore(element, place);
    }
  }

  function make(entry: Entry): HTMLElement {
    if (entry.kind === "notice") {
      const css = entry.isBad ? "note bad" : "note";
      return el("li", { class: css }, el("time", {}, format.clock(entry.at)), " ", entry.text);
    }
    const { seq, ts, message } = JSON.parse(entry.raw) as { seq: number; ts: string; message: { id: string } };
    const payload = member(member(entry.raw, "message") ?? "{}", "payload") ?? "null";
    const code = el("code");
    const left = setOut(payload, code, isCompact, SHOWN_MAX);
    const item = el(
      "li",
      {},
      el("p", { class: "about" }, el("b", {}, `#${seq}`), " ", el("time", { datetime: ts }, format.clock(ts)), " ", el("span", { class: "id" }, message.id)),
      el("pre", {}, code),
    );
    if (left > 0) {
      const more = el("button", {
        type: "button",
        class: "quiet",
        onclick: () => {
          code.replaceChildren();
          const still = setOut(payload, code, isCompact, SHOWN_ALL_MAX);
          if (still > 0) code.append(`\n… ${format.plural(still, "more character")}`);
          more.remove();
        },
      }, `… ${format.plural(left, "more character")}: show`);
      item.append(more);
    }
    return item;
  }

  // A screen reader hears how many have come, not each of them.
  const speaking = window.setInterval(() => {
    const more = tail.received - toldUpTo;
    if (more > 0 && !isPaused) say(spoken, `${format.plural(more, "new event")}`);
    toldUpTo = tail.received;
  }, TELL_MS);

  start();
  draw();
  return {
    element: el(
      "section",
      { class: "panel", "aria-labelledby": "tail" },
      el("header", {}, el("h2", { id: "tail" }, "Live tail"), state),
      el(
        "div",
        { class: "row bar" },
        onOff,
        pause,
        clear,
        el("span", { class: "row" }, el("label", { for: "tail-from" }, "From"), begin),
        el("span", { class: "row" }, el("label", { for: "tail-filter" }, "Filter"), search),
        el("span", { class: "check" }, compact, el("label", { for: "compact" }, "compact")),
      ),
      counts,
      spoken,
      scroll,
    ),
    end: () => {
      window.clearTimeout(timer);
      window.clearInterval(speaking);
      timer = 0;
      tail.stop();
    },
  };
}
