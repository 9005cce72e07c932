// Every topic: searched, sorted and shown page by page. There may be 100,000 of them.

import * as api from "../api";
import { el, keyed, name, say, set } from "../dom";
import * as format from "../format";
import * as link from "../link";
import { tell } from "../notices";
import { deleteTopic, topicHash } from "./topic";
import { Trouble, scroller, type View } from "./view";

const PAGE = 50;

interface Row {
  name: string;
  subscribers: number;
  messages: number;
  rate: number;
  dropped: number;
  dropRate: number;
}

type Column = keyof Row;

const COLUMNS: { column: Column; label: string; css: string }[] = [
  { column: "name", label: "Topic", css: "" },
  { column: "subscribers", label: "Subscribers", css: "number" },
  { column: "rate", label: "Messages/s", css: "number" },
  { column: "messages", label: "Messages", css: "number wide" },
  { column: "dropRate", label: "Dropped/s", css: "number wide" },
  { column: "dropped", label: "Dropped", css: "number" },
];

// What was chosen stays when one comes back from a topic.
let search = "";
let sort: Column = "rate";
let isAscending = false;
let page = 0;

export function topics(): View {
  let rows: Row[] = [];
  let shown: Row[] = [];
  let before = new Map<string, api.TopicFigures>();
  let beforeAt = 0;
  let hasRates = true;
  let hasRead = false;

  const trouble = new Trouble();
  const found = el("p", { class: "muted", role: "status" });
  const body = el("tbody");
  const heads = COLUMNS.map(({ column, label, css }) => {
    const button = el("button", { type: "button", class: "sort", onclick: () => turn(column) }, label);
    return { column, cell: el("th", { scope: "col", class: css }, button) };
  });
  const table = el(
    "table",
    {},
    el("caption", { class: "unseen" }, "Topics; the buttons in the heads sort"),
    el("thead", {}, el("tr", {}, ...heads.map((head) => head.cell), el("th", { scope: "col", class: "wide" }, el("span", { class: "unseen" }, "Actions")))),
    body,
  );
  const input = el("input", {
    type: "search",
    id: "search",
    value: search,
    placeholder: "part of a name",
    autocomplete: "off",
    spellcheck: "false",
    oninput: () => {
      search = input.value;
      page = 0;
      arrange();
    },
  });
  const where = el("span", { class: "muted" });
  const step = (label: string, to: () => number): HTMLButtonElement =>
    el("button", { type: "button", onclick: () => ((page = to()), draw()) }, label);
  const last = (): number => Math.max(0, Math.ceil(shown.length / PAGE) - 1);
  const back = [step("First", () => 0), step("Previous", () => page - 1)];
  const onward = [step("Next", () => page + 1), step("Last", last)];

  const pages = el("nav", { class: "row bar pages", "aria-label": "Pages" }, ...back, where, ...onward);

  const newName = el("input", { id: "new-topic", required: true, autocomplete: "off", spellcheck: "false", maxlength: 255 });
  const wrong = el("p", { class: "wrong", role: "alert", id: "new-topic-wrong" });
  const form = el(
    "form",
    {
      class: "panel row create",
      onsubmit: (event: SubmitEvent) => {
        event.preventDefault();
        void create();
      },
    },
    el("label", { for: "new-topic" }, "New topic"),
    newName,
    el("button", { type: "submit", class: "main" }, "Create"),
    wrong,
  );
  newName.setAttribute("aria-describedby", "new-topic-wrong");

  async function create(): Promise<void> {
    say(wrong, "");
    try {
      await api.post("/topics", JSON.stringify({ name: newName.value }));
      tell(`Topic ${newName.value} created.`);
      newName.value = "";
      await read();
    } catch (failed) {
      say(wrong, api.words(failed));
    }
    newName.focus();
  }

  function turn(column: Column): void {
    if (sort === column) isAscending = !isAscending;
    else {
      sort = column;
      isAscending = column === "name";
    }
    page = 0;
    arrange();
  }

  async function read(): Promise<void> {
    try {
      if (hasRates) await readStats();
      else await readNames();
      trouble.clear();
    } catch (failed) {
      if (!(failed instanceof api.Refused && failed.status === 403 && hasRates)) {
        trouble.show(failed);
        return;
      }
      // A key that may not observe still sees the topics that it may use.
      hasRates = false;
      await readNames().catch((failed) => trouble.show(failed));
    }
    hasRead = true;
    arrange();
  }

  async function readNames(): Promise<void> {
    const list = await api.get<{ topics: { name: string; subscribers: number }[] }>("/topics");
    rows = list.topics.map((topic) => ({ ...topic, messages: NaN, rate: NaN, dropped: NaN, dropRate: NaN }));
  }

  async function readStats(): Promise<void> {
    const stats = await api.get<{ topics: Record<string, api.TopicFigures> }>("/stats");
    const now = performance.now();
    const seconds = beforeAt > 0 ? (now - beforeAt) / 1000 : 0;
    const next = new Map(Object.entries(stats.topics));
    rows = [];
    for (const [topic, of] of next) {
      const then = before.get(topic);
      // A topic that was created again begins anew.
      const since = (now: number, then: number | undefined): number =>
        then === undefined || seconds <= 0 || now < then ? 0 : (now - then) / seconds;
      rows.push({
        name: topic,
        subscribers: of.subscribers,
        messages: of.messages,
        rate: since(of.messages, then?.messages),
        dropped: of.dropped,
        dropRate: since(of.dropped, then?.dropped),
      });
    }
    before = next;
    beforeAt = now;
  }

  function arrange(): void {
    const wanted = search.toLowerCase();
    shown = wanted ? rows.filter((row) => row.name.toLowerCase().includes(wanted)) : rows.slice();
    const way = isAscending ? 1 : -1;
    const byName = (a: Row, b: Row): number => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    const column = !hasRates && sort !== "name" ? "subscribers" : sort;
    if (column === "name") shown.sort((a, b) => way * byName(a, b));
    else shown.sort((a, b) => way * (a[column] - b[column]) || byName(a, b));
    draw();
  }

  function draw(): void {
    page = Math.max(0, Math.min(page, last()));
    const begin = page * PAGE;
    const part = shown.slice(begin, begin + PAGE);
    for (const { column, cell } of heads) {
      set(cell, "aria-sort", column === sort ? (isAscending ? "ascending" : "descending") : null);
    }
    const figure = (n: number, by: (n: number) => string): string => (Number.isNaN(n) ? "–" : by(n));
    keyed(
      body,
      part,
      (row) => row.name,
      (row) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, el("a", { href: topicHash(row.name) }, name(row.name))),
          ...COLUMNS.slice(1).map(({ css }) => el("td", { class: css })),
          el(
            "td",
            { class: "actions wide" },
            el(
              "button",
              {
                type: "button",
                class: "quiet",
                "aria-label": `Delete topic ${row.name}`,
                onclick: async () => {
                  if (await deleteTopic(row.name)) await read();
                },
              },
              "Delete",
            ),
          ),
        ),
      (element, row) => {
        const cells = [
          figure(row.subscribers, format.count),
          figure(row.rate, format.compact),
          figure(row.messages, format.count),
          figure(row.dropRate, format.compact),
          figure(row.dropped, format.count),
        ];
        cells.forEach((text, i) => say(element.children[i + 1]!, text));
        element.classList.toggle("lossy", row.dropRate > 0);
        element.children[5]!.classList.toggle("bad", row.dropped > 0);
      },
    );
    const end = Math.min(begin + PAGE, shown.length);
    say(where, shown.length > 0 ? `${format.count(begin + 1)}–${format.count(end)} of ${format.count(shown.length)}` : "");
    for (const button of [...back, ...onward]) button.hidden = shown.length <= PAGE;
    for (const button of back) button.disabled = page === 0;
    for (const button of onward) button.disabled = page >= last();
    const none = rows.length === 0 ? "No topics yet. Create one above, or with POST /topics." : "No topic has that in its name.";
    say(found, !hasRead ? "Reading…" : shown.length === 0 ? none : hasRates ? "" : "This key may not observe: only its own topics are listed, without figures.");
    found.hidden = found.textContent === "";
  }

  draw();
  const end = link.repeat(read, 2000);
  return {
    title: "Topics",
    element: el(
      "div",
      {},
      el("div", { class: "head" }, el("h1", { tabindex: -1 }, "Topics")),
      form,
      trouble.element,
      el(
        "section",
        { class: "panel", "aria-label": "List of topics" },
        el("div", { class: "row bar", role: "search" }, el("label", { for: "search" }, "Search"), input),
        found,
        scroller("Topics", table),
        pages,
      ),
    ),
    end,
  };
}
