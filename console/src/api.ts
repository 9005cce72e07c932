// The public routes, asked as any client asks them.

import * as key from "./key";
import * as link from "./link";

/** The server has said no. The message is its own. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}

/** There was no answer. */
export class Unreachable extends Error {}

/** Where the broker is: the page may stand behind a proxy, under another path. */
const base = location.pathname.replace(/\/console\/?$/, "");

const ANSWER_TIME_MS = 20_000;

let onKeyRefused: (why: Refused) => void = () => undefined;

/** What is to happen where a key is asked for, or ours is not taken. */
export function whenKeyIsRefused(handler: (why: Refused) => void): void {
  onKeyRefused = handler;
}

async function ask(method: string, path: string, body?: string, headers = key.headers()): Promise<Response> {
  try {
    return await fetch(base + path, {
      method,
      headers: body === undefined ? headers : { ...headers, "Content-Type": "application/json" },
      ...(body === undefined ? {} : { body }),
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(ANSWER_TIME_MS),
    });
  } catch {
    link.change("gone");
    throw new Unreachable("The server does not answer.");
  }
}

async function refusal(response: Response): Promise<Refused> {
  const body = (await response.json().catch(() => null)) as {
    error?: string | { code: string; message: string };
    code?: string;
  } | null;
  const error = body?.error;
  if (error && typeof error === "object") return new Refused(response.status, error.code, error.message);
  return new Refused(response.status, body?.code ?? "", error || `The server answered ${response.status}.`);
}

/** Carries out a call; gives the body of its answer. */
async function call(method: string, path: string, body?: string): Promise<string> {
  const response = await ask(method, path, body);
  if (!response.ok) {
    const why = await refusal(response);
    if (why.code === "UNAVAILABLE") link.change("draining");
    else if (link.current() !== "draining") link.change("live");
    if (why.status === 401) onKeyRefused(why);
    throw why;
  }
  let text: string;
  try {
    text = await response.text();
  } catch {
    link.change("gone");
    throw new Unreachable("The answer was cut off.");
  }
  if (link.current() !== "draining") link.change("live");
  return text;
}

export const text = (path: string): Promise<string> => call("GET", path);

export async function get<T>(path: string): Promise<T> {
  return JSON.parse(await text(path)) as T;
}

export const post = (path: string, body: string): Promise<string> => call("POST", path, body);

export const remove = (path: string): Promise<string> => call("DELETE", path);

/** Whether `given` opens anything, or why not. */
export async function tryKey(given: string): Promise<Refused | null> {
  const response = await ask("GET", "/connections?limit=1", undefined, key.headers(given));
  return response.status === 401 || response.status === 429 ? refusal(response) : null;
}

/** Whether there is a server, and whether it goes on. */
export async function readiness(): Promise<"live" | "draining" | "gone"> {
  try {
    const response = await fetch(`${base}/ready`, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return response.ok ? "live" : "draining";
  } catch {
    return "gone";
  }
}

/** The path of a topic. Browsers take "." and ".." for steps in a path, however they are encoded. */
export function topicPath(topic: string): string {
  if (topic === "." || topic === "..") {
    throw new Refused(0, "", `A browser cannot name the topic "${topic}" in a path; use shardcast or curl --path-as-is.`);
  }
  return `/topics/${encodeURIComponent(topic)}`;
}

export function socketUrl(): string {
  const url = new URL(`${base}/ws?client_id=console`, location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

export interface TopicFigures {
  messages: number;
  subscribers: number;
  dropped: number;
  bytes_in: number;
  bytes_out: number;
}

export interface Topic {
  name: string;
  epoch: string;
  seq: number;
  subscribers: number;
  messages: number;
  kept: number;
  dropped: number;
  bytes: number;
  created: string;
}

export interface Connection {
  id: string;
  address: string;
  client_id: string;
  key: string | null;
  transport: string;
  since: string;
  subscriptions: number;
  lag: { events: number; age_ms: number };
  dropped: number;
  bytes_in: number;
  bytes_out: number;
  events_in: number;
  events_out: number;
  last_write: string | null;
  topics?: string[];
  code?: number;
  reason?: string;
  ended?: string;
}

export interface Setting {
  name: string;
  value: string;
  default: string;
  from: "flag" | "environment" | "default";
  group: string;
  about: string;
}

/** In words for whoever sits here. */
export function words(failed: unknown): string {
  return failed instanceof Error ? failed.message : String(failed);
}
