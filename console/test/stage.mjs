// What the tests stand on: the real broker, its command line as clients, and a real browser.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { BINARY, BROWSER, freePort } from "../../tests/stage/machine.mjs";

export const folder = mkdtempSync(join(tmpdir(), "console-test-"));

export class Broker {
  static async start(settings = {}) {
    const broker = new Broker();
    broker.port = await freePort();
    broker.settings = settings;
    broker.clients = [];
    await broker.again();
    return broker;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  async again() {
    const env = { PATH: process.env.PATH, HOST: "127.0.0.1", PORT: String(this.port), LOG_LEVEL: "warn", ...this.settings };
    this.process = spawn(BINARY, [], { env, stdio: "ignore" });
    this.ended = new Promise((done) => this.process.once("exit", done));
    await until("the broker to answer", async () => (await fetch(`${this.url}/health`).catch(() => null))?.ok);
  }

  /** Sends a signal; without a drain it is over at once. */
  async stop(signal = "SIGKILL") {
    this.process.kill(signal);
    await this.ended;
  }

  async end() {
    for (const client of this.clients) client.kill("SIGKILL");
    await this.stop();
  }

  call(method, path, body, key) {
    return fetch(this.url + path, {
      method,
      headers: key ? { "X-API-Key": key } : {},
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
  }

  async create(...topics) {
    for (const name of topics) await this.call("POST", "/topics", { name });
  }

  publish(topic, ...payloads) {
    const body = payloads.map((payload) => ({ payload }));
    return this.call("POST", `/topics/${encodeURIComponent(topic)}/messages`, body);
  }

  /** A subscriber; one that `sleeps` reads nothing. */
  subscribe(topic, clientId, sleeps = false) {
    const arguments_ = ["sub", topic, "--client-id", clientId, "--url", `ws://127.0.0.1:${this.port}/ws`];
    const client = spawn(BINARY, arguments_, { stdio: ["ignore", sleeps ? "pipe" : "ignore", "ignore"] });
    client.stdout?.pause();
    this.clients.push(client);
    return client;
  }
}

export async function until(what, check, patienceMs = 15_000) {
  const end = Date.now() + patienceMs;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

export class Browser {
  static async start() {
    const browser = new Browser();
    browser.chromium = await chromium.launch(BROWSER);
    return browser;
  }

  /** A page of its own, and what it complained of. What the network says is not its fault. */
  async open(broker, place = "", options = {}) {
    const context = await this.chromium.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(15_000);
    page.complaints = [];
    page.on("pageerror", (error) => page.complaints.push(error.message));
    page.on("console", (message) => {
      const text = message.text();
      const isNetwork = /Failed to load resource|WebSocket connection to/.test(text);
      if (["error", "warning"].includes(message.type()) && !isNetwork) page.complaints.push(text);
    });
    await page.goto(`${broker.url}/console#/${place}`);
    return page;
  }

  async end() {
    await this.chromium.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
