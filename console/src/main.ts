// The frame around the views: where one is, whether the server answers, which key and which colours.

import * as api from "./api";
import { el, icon, say, set } from "./dom";
import { History, PERIOD_MS, parse } from "./figures";
import * as key from "./key";
import * as link from "./link";
import { notices, tell } from "./notices";
import * as theme from "./theme";
import { connection, connections } from "./views/connections";
import { overview } from "./views/overview";
import { settings } from "./views/settings";
import { signIn } from "./views/sign_in";
import { topic } from "./views/topic";
import { topics } from "./views/topics";
import type { View } from "./views/view";

const GONE_RETRY_MS = 2000;
const GONE_RETRY_MS_MAX = 10_000;

const PLACES = [
  ["", "Overview", "M4 19V9M10 19V5M16 19v-8M21 19H3"],
  ["topics", "Topics", "M5 7h14M5 12h14M5 17h9"],
  ["connections", "Connections", "M7 12h10M5 12a2 2 0 1 0 .01 0M19 12a2 2 0 1 0 .01 0M12 5v14"],
  ["settings", "Settings", "M4 7h10M18 7h2M4 17h2M10 17h10M14 5v4M8 15v4"],
] as const;

// Before anything is shown, so that it does not flash in the other colours.
theme.apply();

const history = new History();
/** Nothing is asked for while a key is wanted. */
let isLocked = false;
const readers = new Set<(failed?: unknown) => void>();

function whenRead(listener: (failed?: unknown) => void): () => void {
  readers.add(listener);
  return () => readers.delete(listener);
}

async function readFigures(): Promise<void> {
  if (isLocked) return;
  let failed: unknown;
  try {
    const reading = parse(await api.text("/metrics"), Date.now());
    if (reading.value.get("shardcast_draining") === 1) link.change("draining");
    else link.change("live");
    if (history.take(reading)) tell("The server was started again: its figures begin anew.");
  } catch (error) {
    failed = error;
    // Whoever may not see figures is still told what becomes of the server.
    if (error instanceof api.Refused && error.status === 403) link.change(await api.readiness());
  }
  for (const reader of [...readers]) reader(failed);
}

function start(): void {
  const main = el("main", { id: "main" });
  const links = PLACES.map(([place, label, drawing]) =>
    el("a", { href: `#/${place}` }, icon(drawing), el("span", {}, label)),
  );
  const state = el("span", { class: "pill" }, "Connecting…");
  const leave = el("button", { type: "button", class: "quiet", hidden: true, onclick: () => signOut("") }, "Forget key");
  const again = el("button", { type: "button", onclick: () => void retry() }, "Try now");
  const banner = el("div", { class: "banner", role: "alert", hidden: true });
  const themes = el(
    "select",
    { "aria-label": "Colours", onchange: () => theme.choose(themes.value as theme.Theme) },
    ...(["system", "light", "dark"] as const).map((name) =>
      el("option", { value: name, selected: name === theme.chosen() }, name === "system" ? "Auto" : name === "light" ? "Light" : "Dark"),
    ),
  );
  document.body.append(
    el("a", { class: "skip", href: "#main", onclick: skip }, "Skip to content"),
    el(
      "header",
      { class: "top" },
      el("a", { class: "brand", href: "#/" }, el("img", { src: "console/icon.svg", alt: "", width: 24, height: 24 }), el("span", {}, "shardcast")),
      el("nav", { "aria-label": "Views" }, ...links),
      el("div", { class: "row tools" }, el("span", { role: "status" }, state), leave, themes),
    ),
    banner,
    main,
    notices(),
  );

  function skip(event: Event): void {
    event.preventDefault();
    main.querySelector<HTMLElement>("h1")?.focus();
  }

  let view: View | null = null;

  function open(next: View, takesFocus: boolean): void {
    view?.end();
    view = next;
    main.replaceChildren(next.element);
    document.title = `${next.title} · shardcast`;
    window.scrollTo(0, 0);
    if (takesFocus) next.element.querySelector<HTMLElement>("h1")?.focus();
  }

  function route(takesFocus = true): void {
    if (isLocked) return;
    const [place = "", ...rest] = location.hash.replace(/^#\/?/, "").split("/");
    const of = rest.join("/");
    links.forEach((link, i) => set(link, "aria-current", PLACES[i]![0] === place ? (of ? "true" : "page") : null));
    open(viewOf(place, of), takesFocus);
  }

  function viewOf(place: string, of: string): View {
    const decoded = decode(of);
    if (place === "topics") return decoded ? topic(decoded) : topics();
    if (place === "connections") return decoded ? connection(decoded) : connections();
    if (place === "settings") return settings();
    return overview(history, whenRead);
  }

  function signOut(why: string): void {
    key.keep(null);
    lock(why);
  }

  function lock(why: string): void {
    if (isLocked) return;
    isLocked = true;
    key.keep(null);
    leave.hidden = true;
    const done = (): void => {
      isLocked = false;
      leave.hidden = false;
      route();
    };
    open(signIn(why, done), false);
    main.querySelector<HTMLElement>("input")?.focus();
  }

  api.whenKeyIsRefused((why) => lock(key.hasKey() ? why.message : ""));

  let retryTimer: number | undefined;
  let retryMs = GONE_RETRY_MS;

  async function retry(): Promise<void> {
    window.clearTimeout(retryTimer);
    if (link.current() !== "gone") return;
    if (!document.hidden) link.change(await api.readiness());
    if (link.current() !== "gone") return;
    retryTimer = window.setTimeout(() => void retry(), retryMs);
    retryMs = Math.min(retryMs * 1.5, GONE_RETRY_MS_MAX);
  }

  function showLink(now: link.State): void {
    const words = { connecting: "Connecting…", live: "Live", draining: "Shutting down", gone: "No answer" };
    say(state, words[now]);
    state.className = `pill ${now}`;
    window.clearTimeout(retryTimer);
    if (now === "gone") {
      banner.replaceChildren("The server does not answer. What is shown is from before; trying again by itself. ", again);
      retryTimer = window.setTimeout(() => void retry(), GONE_RETRY_MS);
    } else if (now === "draining") {
      banner.replaceChildren("The server is shutting down: it takes no new work. This page goes on when it is back.");
    } else {
      retryMs = GONE_RETRY_MS;
      banner.replaceChildren();
    }
    banner.hidden = now === "live" || now === "connecting";
  }

  link.watch(showLink);
  window.addEventListener("hashchange", () => route());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) void retry();
  });
  leave.hidden = !key.hasKey();

  // Whether a key is wanted shows at the cheapest route that may want one. That a key may not
  // observe is no reason to stay out.
  void api.text("/connections?limit=1").catch(() => undefined).finally(() => {
    if (!isLocked) route(false);
    link.repeat(readFigures, PERIOD_MS);
  });
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
