// Whether the server answers, and what to do while it does not.

export type State = "connecting" | "live" | "draining" | "gone";

type Listener = (state: State) => void;

const listeners = new Set<Listener>();
let state: State = "connecting";

export const current = (): State => state;

export function change(next: State): void {
  if (next === state) return;
  state = next;
  for (const listener of [...listeners]) listener(next);
}

/** Calls `listener` at each change. Gives what ends that. */
export function watch(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Does `step` again and again: not while the tab is hidden, not while the server is gone, never
 * twice at once, and more rarely where a step takes long. Gives what ends it.
 */
export function repeat(step: () => Promise<void>, periodMs: number): () => void {
  let timer: number | undefined;
  let isBusy = false;
  let hasEnded = false;
  const isIdle = (): boolean => document.hidden || state === "gone";
  const run = async (): Promise<void> => {
    window.clearTimeout(timer);
    if (isBusy || hasEnded || isIdle()) return;
    isBusy = true;
    const begun = performance.now();
    await step().catch(() => undefined);
    isBusy = false;
    const took = performance.now() - begun;
    if (!hasEnded) timer = window.setTimeout(run, Math.max(periodMs, took * 8));
  };
  const wake = (): void => void (isIdle() ? window.clearTimeout(timer) : run());
  document.addEventListener("visibilitychange", wake);
  const unwatch = watch(wake);
  void run();
  return () => {
    hasEnded = true;
    window.clearTimeout(timer);
    document.removeEventListener("visibilitychange", wake);
    unwatch();
  };
}
