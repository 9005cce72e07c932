import { ShardcastError } from "./error.js";

export interface Auth {
  api_key?: string;
  token?: string;
}

/** The headers that prove who asks. */
export const proof = (auth: Auth): Record<string, string> =>
  auth.token ? { authorization: `Bearer ${auth.token}` } : auth.api_key ? { "x-api-key": auth.api_key } : {};

/** Asks over HTTP. What the broker refuses is thrown as a `ShardcastError`, what is broken as anything else. */
export async function ask(url: string, init: RequestInit): Promise<Response> {
  const response = await fetch(url, { cache: "no-store", ...init });
  if (response.ok) return response;
  // An answer that is no JSON is not the broker's: it throws here.
  const { error, code } = await response.json();
  const after = response.headers.get("retry-after");
  throw new ShardcastError(error.code ?? code, error.message ?? error, after ? +after * 1000 : undefined);
}

export const isOfAuth = (code: string): boolean => /_K|TOK|UNAU/.test(code);
