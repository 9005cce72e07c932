// What a view is: an element under a heading, which lives until another takes its place.

import * as api from "../api";
import { el, say } from "../dom";

export interface View {
  title: string;
  element: HTMLElement;
  end(): void;
}

/** A place for why something cannot be shown. */
export class Trouble {
  readonly element = el("p", { class: "trouble", role: "status", hidden: true });

  /** Says what has failed. What nobody answered is said at the top of the page already. */
  show(failed: unknown): void {
    if (failed instanceof api.Unreachable) return;
    if (failed instanceof api.Refused && failed.status === 401) return;
    say(this.element, api.words(failed));
    this.element.hidden = false;
  }

  clear(): void {
    this.element.hidden = true;
  }
}

/** A table that scrolls sideways by itself where the page is narrow. */
export function scroller(label: string, table: HTMLElement): HTMLElement {
  return el("div", { class: "scroller", role: "region", tabindex: 0, "aria-label": `${label}, as a table` }, table);
}

export function fact(label: string, value: Node | string): HTMLElement {
  return el("div", { class: "fact" }, el("dt", {}, label), el("dd", {}, value));
}
