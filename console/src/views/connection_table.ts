// Connections, the worst on top, a page at a time as the server gives them.

import * as api from "../api";
import { el, keyed, name, say, set } from "../dom";
import * as format from "../format";
import { confirm, tell } from "../notices";
import { Trouble, scroller } from "./view";

const PAGE = 50;

const SORTS = [
  ["lag", "Most lagging"],
  ["dropped", "Most dropped"],
  ["age", "Oldest"],
] as const;

interface Source {
  path(query: string): string;
  /** Where the list is in the answer. */
  member: "connections" | "subscribers";
  nobody: string;
  isClosed?: boolean;
}

interface Page {
  connections?: api.Connection[];
  subscribers?: api.Connection[];
  next: string | null;
}

export const connectionHash = (id: string): string => `#/connections/${encodeURIComponent(id)}`;

/** Asks, disconnects, and says so. */
export async function disconnect(connection: api.Connection): Promise<boolean> {
  const isSure = await confirm({
    title: "Disconnect this client?",
    text: [
      name(connection.client_id),
      ` at ${connection.address} is closed with code 1008. It may come back; what keeps it away is to withdraw its key.`,
    ],
    go: "Disconnect",
  });
  if (!isSure) return false;
  try {
    await api.remove(`/connections/${connection.id}`);
    tell(`${connection.client_id} disconnected.`);
    return true;
  } catch (failed) {
    tell(`Not disconnected: ${api.words(failed)}`, "bad");
    return false;
  }
}

interface Column {
  label: string;
  css: string;
  cell(connection: api.Connection): string;
  isBad?(connection: api.Connection): boolean;
}

const COLUMNS: Column[] = [
  { label: "Address", css: "wide", cell: (of) => of.address },
  { label: "Key", css: "wide", cell: (of) => of.key ?? "–" },
  {
    label: "Lag",
    css: "number",
    cell: (of) => (of.lag.events > 0 ? `${format.count(of.lag.events)} · ${format.latency(of.lag.age_ms / 1000)}` : "0"),
    isBad: (of) => of.lag.age_ms > 1000,
  },
  { label: "Dropped", css: "number", cell: (of) => format.count(of.dropped), isBad: (of) => of.dropped > 0 },
  { label: "Events out", css: "number wide", cell: (of) => format.count(of.events_out) },
  { label: "Bytes out", css: "number wide", cell: (of) => format.bytes(of.bytes_out) },
  { label: "Topics", css: "number wide", cell: (of) => format.count(of.subscriptions) },
  { label: "Since", css: "number wide", cell: (of) => format.ago(of.since) },
];

const ENDED: Column[] = [
  { label: "Code", css: "number wide", cell: (of) => String(of.code ?? "") },
  { label: "Reason", css: "reason", cell: (of) => of.reason || "–" },
  { label: "Ended", css: "number wide", cell: (of) => (of.ended ? `${format.ago(of.ended)} ago` : "–") },
];

export class ConnectionTable {
  readonly element: HTMLElement;
  readonly sorting: HTMLElement;
  private readonly trouble = new Trouble();
  private readonly body = el("tbody");
  private readonly state = el("p", { class: "muted", role: "status" }, "Reading…");
  private readonly back: HTMLButtonElement;
  private readonly onward: HTMLButtonElement;
  private readonly columns: Column[];
  /** Where the pages before this one began. */
  private readonly path: string[] = [];
  private after = "";
  private next: string | null = null;
  private turn = 0;

  constructor(private readonly source: Source) {
    const isClosed = source.isClosed ?? false;
    const lasting = COLUMNS.filter((column) => !isClosed || !["Since", "Bytes out", "Topics"].includes(column.label));
    // A narrow page has room for what was lost and why, not for how much waited.
    const narrow = lasting.map((column) => (column.label === "Lag" ? { ...column, css: "number wide" } : column));
    this.columns = isClosed ? [...narrow, ...ENDED] : lasting;
    const sort = el(
      "select",
      {
        "aria-label": "Order",
        onchange: () => {
          this.path.length = 0;
          this.after = "";
          this.order = sort.value;
          void this.read();
        },
      },
      ...SORTS.map(([value, label]) => el("option", { value }, label)),
    );
    this.sorting = isClosed ? el("span") : sort;
    const step = (label: string, go: () => void): HTMLButtonElement =>
      el("button", { type: "button", disabled: true, onclick: () => (go(), void this.read()) }, label);
    this.back = step("Previous", () => {
      this.after = this.path.pop() ?? "";
    });
    this.onward = step("Next", () => {
      if (this.next === null) return;
      this.path.push(this.after);
      this.after = this.next;
    });
    const heads = this.columns.map(({ label, css }) => el("th", { scope: "col", class: css }, label));
    const label = source.member === "subscribers" ? "Subscribers" : isClosed ? "Ended connections" : "Connections";
    const actions = el("th", { scope: "col" }, el("span", { class: "unseen" }, "Actions"));
    const table = el(
      "table",
      {},
      el("caption", { class: "unseen" }, label),
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Client"), ...heads, isClosed ? null : actions)),
      this.body,
    );
    this.element = el(
      "div",
      {},
      this.trouble.element,
      this.state,
      scroller(label, table),
      el("nav", { class: "row bar pages", "aria-label": `Pages of ${label.toLowerCase()}` }, this.back, this.onward),
    );
  }

  private order: string = SORTS[0][0];

  async read(): Promise<void> {
    this.turn += 1;
    const turn = this.turn;
    const query = new URLSearchParams({ limit: String(PAGE) });
    if (this.source.isClosed) query.set("closed", "1");
    else query.set("sort", this.order);
    if (this.after) query.set("after", this.after);
    try {
      const page = await api.get<Page>(this.source.path(query.toString()));
      // Somebody has asked for something else since.
      if (turn !== this.turn) return;
      this.trouble.clear();
      this.next = page.next;
      this.draw(page[this.source.member] ?? []);
    } catch (failed) {
      if (failed instanceof api.Refused) {
        this.draw([]);
        this.state.hidden = true;
      }
      this.trouble.show(failed);
    }
  }

  private draw(connections: api.Connection[]): void {
    const isClosed = this.source.isClosed ?? false;
    keyed(
      this.body,
      connections,
      (of) => `${of.id} ${of.ended ?? ""}`,
      (of) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, isClosed ? name(of.client_id) : el("a", { href: connectionHash(of.id) }, name(of.client_id))),
          ...this.columns.map(({ css }) => el("td", { class: css })),
          isClosed
            ? null
            : el(
                "td",
                { class: "actions" },
                el(
                  "button",
                  {
                    type: "button",
                    class: "quiet",
                    "aria-label": `Disconnect ${of.client_id}`,
                    onclick: async () => {
                      if (await disconnect(of)) await this.read();
                    },
                  },
                  "Disconnect",
                ),
              ),
        ),
      (element, of) => {
        this.columns.forEach((column, i) => {
          const cell = element.children[i + 1]!;
          say(cell, column.cell(of));
          cell.classList.toggle("bad", column.isBad?.(of) ?? false);
        });
      },
    );
    this.state.hidden = connections.length > 0;
    say(this.state, this.after ? "This page is empty now." : this.source.nobody);
    this.back.disabled = !this.after;
    this.onward.disabled = this.next === null;
    set(this.back.parentElement!, "hidden", !this.after && this.next === null);
  }
}
