import { ShardcastError } from "./error.js";

/** Asks over HTTP; what is refused is thrown as a `ShardcastError`, what is broken as anything else. */
export async function ask(url: string, init: RequestInit): Promise<any> {
  const response = await fetch(url, { cache: "no-store", ...init });
  await refuse(response);
  return response.json();
}

export async function refuse(response: Response): Promise<void> {
  if (response.ok) return;
  // An answer that is no JSON is not the broker's: it throws here.
  const { error, code } = await response.json();
  const after = response.headers.get("retry-after");
  throw new ShardcastError(error.code ?? code, error.message ?? error, after ? +after * 1000 : undefined);
}
