// What has happened, told once to the eye and to a screen reader, and questions before what cannot
// be undone.

import { el } from "./dom";

const SHOWN_MS = 7000;

const region = el("div", { class: "notices", role: "status", "aria-live": "polite" });

export const notices = (): HTMLElement => region;

export function tell(text: string, kind: "good" | "bad" = "good"): void {
  const notice = el("p", { class: `notice ${kind}` }, text);
  region.append(notice);
  while (region.childElementCount > 3) region.firstElementChild?.remove();
  window.setTimeout(() => notice.remove(), SHOWN_MS);
}

/** Asks whether to go on. The safe answer has the focus. */
export function confirm(question: { title: string; text: (Node | string)[]; go: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const cancel = el("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const go = el("button", { type: "button", class: "danger", onclick: () => dialog.close("go") }, question.go);
    const title = el("h2", { id: "question" }, question.title);
    const dialog = el(
      "dialog",
      {
        "aria-labelledby": "question",
        onclose: () => {
          dialog.remove();
          resolve(dialog.returnValue === "go");
        },
      },
      title,
      el("p", {}, ...question.text),
      el("div", { class: "row end" }, cancel, go),
    );
    document.body.append(dialog);
    dialog.showModal();
    cancel.focus();
  });
}
