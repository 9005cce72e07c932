// Publishes one message at a time, byte for byte as it was typed.

import * as api from "../api";
import { el, say, set } from "../dom";

export function publisher(topic: string): HTMLElement {
  const input = el("textarea", {
    id: "payload",
    rows: 7,
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": "publish-hint publish-outcome",
    onkeydown: (event: KeyboardEvent) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void publish();
    },
  });
  input.value = '{"hello": "world"}';
  const asText = el("input", { type: "checkbox", id: "as-text" });
  const button = el("button", { type: "submit", class: "main" }, "Publish");
  const outcome = el("p", { role: "status", id: "publish-outcome", class: "outcome" });

  async function publish(): Promise<void> {
    const payload = asText.checked ? JSON.stringify(input.value) : input.value.trim();
    try {
      JSON.parse(payload);
    } catch (failed) {
      tellBad(`This is not JSON (${api.words(failed)}). Mend it, or send it as a text.`);
      set(input, "aria-invalid", "true");
      return;
    }
    set(input, "aria-invalid", null);
    button.disabled = true;
    try {
      const answer = await api.post(`${api.topicPath(topic)}/messages`, `{"payload":${payload}}`);
      const { seq, matched } = JSON.parse(answer) as { seq: number; matched: number };
      say(outcome, `Published as #${seq}, to ${matched === 1 ? "1 subscriber" : `${matched} subscribers`}.`);
      outcome.classList.remove("bad");
    } catch (failed) {
      tellBad(api.words(failed));
    }
    button.disabled = false;
  }

  function tellBad(text: string): void {
    say(outcome, text);
    outcome.classList.add("bad");
  }

  return el(
    "section",
    { class: "panel publish", "aria-labelledby": "publish" },
    el("header", {}, el("h2", { id: "publish" }, "Publish")),
    el(
      "form",
      {
        onsubmit: (event: SubmitEvent) => {
          event.preventDefault();
          void publish();
        },
      },
      el("label", { for: "payload" }, "Payload"),
      input,
      el("p", { class: "muted", id: "publish-hint" }, "Any JSON value; sent as you type it. Ctrl+Enter publishes."),
      el(
        "div",
        { class: "row" },
        button,
        el("span", { class: "check" }, asText, el("label", { for: "as-text" }, "send as a text")),
      ),
      outcome,
    ),
  );
}
