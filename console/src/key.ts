// The key of whoever sits here.
//
// It lives in sessionStorage: it ends with the tab, and a reload does not ask for it again. Memory
// alone would make people keep the key somewhere worse; a script that could read the one could read
// the other. It goes out in headers and in the first message of a WebSocket, never in a URL, and no
// element ever holds it once it is taken.

const PLACE = "shardcast.key";

let key: string | null = sessionStorage.getItem(PLACE);

export const hasKey = (): boolean => key !== null;

export function keep(given: string | null): void {
  key = given;
  if (given === null) sessionStorage.removeItem(PLACE);
  else sessionStorage.setItem(PLACE, given);
}

/** A token has three parts, and its first begins like an object in base64. */
const isToken = (given: string): boolean => /^eyJ[\w-]*\.[\w-]+\.[\w-]*$/.test(given);

/** The headers that show the key. */
export function headers(given = key): Record<string, string> {
  if (given === null) return {};
  if (isToken(given)) return { Authorization: `Bearer ${given}` };
  // A header takes bytes; a key is UTF-8.
  return { "X-API-Key": String.fromCharCode(...new TextEncoder().encode(given)) };
}

/** The first message of a WebSocket, if it needs one. */
export function auth(): string | null {
  if (key === null) return null;
  const shown = isToken(key) ? { token: key } : { api_key: key };
  return JSON.stringify({ type: "auth", ...shown });
}
