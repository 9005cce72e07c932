// A real broker for each test, on a port that is free, and what a test does to it.
import { spawn } from "node:child_process";
import { BINARY, freePort } from "../../../tests/stage/machine.mjs";

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until `check` gives something, and gives that. */
export async function until(check, what = "it", ms = 10_000) {
  const end = Date.now() + ms;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await sleep(10);
  }
}

/** Starts a broker that ends with the test `t`. */
export async function serve(t, settings = {}) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  let child;
  let ended;
  async function start() {
    let log = "";
    child = spawn(BINARY, [], {
      env: { HOST: "127.0.0.1", PORT: `${port}`, SHARDS: "1", DRAIN_GRACE_MS: "50", ...settings },
      stdio: ["ignore", "ignore", "pipe"],
    });
    child.stderr.on("data", (data) => (log += data));
    ended = new Promise((resolve) => child.on("exit", resolve));
    await until(async () => {
      if (child.exitCode !== null) throw new Error(`the broker has ended: ${log}`);
      return fetch(`${url}/health`).then((response) => response.ok, () => false);
    }, "the broker");
  }
  const kill = async (signal = "SIGKILL") => {
    child.kill(signal);
    await ended;
  };
  await start();
  t.after(async () => {
    child.kill("SIGCONT");
    await kill();
  });
  const call = async (method, path, body, headers = {}) => {
    const response = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
    return response.status === 204 ? undefined : response.json();
  };
  return {
    port,
    url,
    ws: `ws://127.0.0.1:${port}/ws`,
    start,
    kill,
    signal: (signal) => child.kill(signal),
    call,
    topic: (name, headers) => call("POST", "/topics", { name }, headers),
    post: (topic, ...payloads) =>
      call("POST", `/topics/${encodeURIComponent(topic)}/messages`, payloads.map((payload) => ({ payload }))),
    kept: async (topic) => (await call("GET", `/topics/${encodeURIComponent(topic)}/messages`)).messages,
  };
}
