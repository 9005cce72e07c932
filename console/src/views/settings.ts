// The settings in force, and who has said so.

import * as api from "../api";
import { el, say } from "../dom";
import * as format from "../format";
import { Trouble, scroller, type View } from "./view";

export function settings(): View {
  let all: api.Setting[] = [];
  const trouble = new Trouble();
  const place = el("div");
  const state = el("p", { class: "muted", role: "status" }, "Reading…");
  const input = el("input", { type: "search", id: "find", placeholder: "name or purpose", autocomplete: "off", oninput: () => draw() });
  const changed = el("input", { type: "checkbox", id: "changed", onchange: () => draw() });

  function draw(): void {
    const wanted = input.value.toLowerCase();
    const shown = all.filter(
      (setting) =>
        (!changed.checked || setting.from !== "default") &&
        `${setting.name} ${setting.about}`.toLowerCase().includes(wanted),
    );
    const groups = [...new Set(shown.map((setting) => setting.group))];
    place.replaceChildren(
      ...groups.map((group) => {
        const rows = shown.filter((setting) => setting.group === group);
        const head = ["Setting", "In force"].map((word) => el("th", { scope: "col" }, word));
        head.push(el("th", { scope: "col", class: "wide" }, "From"));
        return el(
          "section",
          { class: "panel" },
          el("header", {}, el("h2", {}, group)),
          scroller(
            group,
            el(
              "table",
              { class: "settings" },
              el("caption", { class: "unseen" }, group),
              el("thead", {}, el("tr", {}, ...head)),
              el("tbody", {}, ...rows.map(row)),
            ),
          ),
        );
      }),
    );
    say(state, `${format.plural(shown.length, "setting")} of ${all.length}, as they were at the start.`);
  }

  function row(setting: api.Setting): HTMLElement {
    const isOther = setting.value !== setting.default;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, el("code", {}, setting.name), el("p", { class: "muted" }, setting.about)),
      el(
        "td",
        {},
        el("code", { class: isOther ? "changed" : "" }, setting.value || "–"),
        isOther && setting.default ? el("p", { class: "muted" }, `default ${setting.default}`) : null,
      ),
      el("td", { class: "wide" }, setting.from),
    );
  }

  const read = async (): Promise<void> => {
    try {
      all = (await api.get<{ settings: api.Setting[] }>("/settings")).settings;
      trouble.clear();
      draw();
    } catch (failed) {
      state.hidden = true;
      trouble.show(failed);
    }
  };
  void read();
  return {
    title: "Settings",
    element: el(
      "div",
      {},
      el("div", { class: "head" }, el("h1", { tabindex: -1 }, "Settings")),
      el(
        "div",
        { class: "panel row bar", role: "search" },
        el("label", { for: "find" }, "Search"),
        input,
        el("span", { class: "check" }, changed, el("label", { for: "changed" }, "only those that somebody has set")),
      ),
      trouble.element,
      state,
      place,
    ),
    end: () => undefined,
  };
}
