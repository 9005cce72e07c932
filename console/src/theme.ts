// Light or dark: as the system says, unless somebody says otherwise here.

export type Theme = "system" | "light" | "dark";

const PLACE = "shardcast.theme";
const listeners = new Set<() => void>();

const isTheme = (text: string | null): text is Theme => text === "light" || text === "dark" || text === "system";

export function chosen(): Theme {
  const kept = localStorage.getItem(PLACE);
  return isTheme(kept) ? kept : "system";
}

export function apply(theme = chosen()): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
  for (const listener of [...listeners]) listener();
}

export function choose(theme: Theme): void {
  localStorage.setItem(PLACE, theme);
  apply(theme);
}

/** Calls `listener` when colours change. Gives what ends that. */
export function watch(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply());
