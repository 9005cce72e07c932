// What the tests of a user's day stand on: the real server, a real browser, and the end of both.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { BINARY, BROWSER } from "../stage/machine.mjs";

export const root = new URL("../../", import.meta.url);
const { chromium } = createRequire(new URL("clients/js/package.json", root))("playwright-core");

const running = new Set();
/** Runs a program that ends with the tests. */
export function run(command, args, env = {}) {
  const child = spawn(command, args, { cwd: root, env: { ...process.env, ...env } });
  running.add(child);
  child.on("exit", () => running.delete(child));
  return child;
}
after(() => running.forEach((child) => child.kill("SIGKILL")));

/** Starts the server; on a port of its own, or again on the one it had. */
export async function serve(port = 0) {
  const server = run(BINARY, [], {
    AUTO_CREATE_TOPICS: "true",
    HOST: "127.0.0.1",
    PORT: String(port),
    RING_BUFFER_SIZE: "1000",
    RECONNECT_SPREAD_SEC: "1",
  });
  for await (const line of createInterface({ input: server.stderr })) {
    const address = /listening addr=127\.0\.0\.1:(\d+)/.exec(line);
    if (address) {
      server.stderr.resume();
      return { server, port: Number(address[1]) };
    }
  }
  throw new Error("the server does not start");
}

/** Starts a browser. */
export async function launch() {
  const browser = await chromium.launch(BROWSER);
  after(() => browser.close());
  return browser;
}
