// Asks for a key, where the server wants one.

import * as api from "../api";
import { el, say, set } from "../dom";
import * as key from "../key";
import type { View } from "./view";

export function signIn(why: string, done: () => void): View {
  const input = el("input", {
    type: "password",
    id: "key",
    required: true,
    autocomplete: "off",
    spellcheck: "false",
    "aria-describedby": "key-hint key-wrong",
  });
  const wrong = el("p", { class: "wrong", role: "alert", id: "key-wrong" }, why);
  const button = el("button", { type: "submit", class: "main" }, "Open");

  async function open(): Promise<void> {
    const given = input.value.trim();
    if (!given) return;
    button.disabled = true;
    say(wrong, "");
    try {
      const refused = await api.tryKey(given);
      if (refused) {
        say(wrong, refused.message);
        set(input, "aria-invalid", "true");
        input.select();
      } else {
        input.value = "";
        key.keep(given);
        done();
      }
    } catch (failed) {
      say(wrong, api.words(failed));
    }
    button.disabled = false;
  }

  return {
    title: "Key",
    element: el(
      "div",
      { class: "sign-in" },
      el(
        "form",
        {
          class: "panel",
          onsubmit: (event: SubmitEvent) => {
            event.preventDefault();
            void open();
          },
        },
        el("h1", { tabindex: -1 }, "This broker asks for a key"),
        el("label", { for: "key" }, "API key or token"),
        input,
        el("p", { class: "muted", id: "key-hint" }, "It stays in this tab until the tab is closed, and goes to this server only."),
        wrong,
        el("div", { class: "row end" }, button),
      ),
    ),
    end: () => undefined,
  };
}
