// The same in a real browser: what it alone does (origins, preflights, workers, no headers on a
// WebSocket), and the faults once more, since its sockets are others.
import assert from "node:assert/strict";
import { readFileSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { BROWSER } from "../../../../tests/stage/machine.mjs";
import { stand } from "../proxy.js";
import { serve, sleep, until } from "../server.js";

const module = readFileSync(new URL("../../dist/shardcast.js", import.meta.url));
const worker = `
  import { connect } from "/shardcast.js";
  onmessage = async ({ data }) => {
    const shard = connect(data);
    const subscription = shard.subscribe("orders");
    await subscription.ready;
    await shard.publish("orders", "from a worker");
    for await (const { payload } of subscription) {
      postMessage(payload);
      break;
    }
    shard.close();
  };`;

let site;
let context;
let directory;
let origin;

before(async () => {
  site = createServer((request, response) => {
    const files = { "/shardcast.js": module, "/worker.js": worker };
    const file = files[request.url];
    response.setHeader("Content-Type", file ? "text/javascript" : "text/html");
    response.end(file ?? "<!doctype html><title>shardcast</title>");
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${site.address().port}`;
  directory = mkdtempSync(join(tmpdir(), "shardcast-chromium-"));
  context = await chromium.launchPersistentContext(directory, BROWSER);
  context.setDefaultTimeout(15_000);
});

after(async () => {
  await context?.close();
  site.close();
  if (directory) rmSync(directory, { recursive: true, force: true, maxRetries: 5 });
});

/** A page with a client, and what a subscription to `orders` tells. */
async function open(t, url, options = {}) {
  const page = await context.newPage();
  t.after(() => page.close());
  await page.goto(origin);
  await page.evaluate(
    async ([url, options]) => {
      const { connect } = await import("/shardcast.js");
      const told = { payloads: [], gaps: [], states: [] };
      const shard = connect(url, {
        backoffMs: 20,
        backoffMaxMs: 200,
        ...options,
        onState: (state, error) => told.states.push(error ? `${state} ${error.code}` : state),
      });
      const subscription = shard.subscribe("orders", {
        onEvent: ({ payload }) => told.payloads.push(payload),
        onGap: ({ from, to, reason }) => told.gaps.push([from, to, reason]),
      });
      Object.assign(globalThis, { shard, subscription, told });
    },
    [url, options],
  );
  return {
    page,
    ready: () => page.evaluate(() => subscription.ready),
    publish: (payload) => page.evaluate((payload) => shard.publish("orders", payload), payload),
    told: () => page.evaluate(() => told),
    state: () => page.evaluate(() => shard.state),
    transport: () => page.evaluate(() => shard.transport),
  };
}

const heard = (page, count) => until(async () => (await page.told()).payloads.length >= count, `${count} events`);

for (const transport of ["ws", "sse"]) {
  test(`${transport}: publishes and events, with a key`, async (t) => {
    const broker = await serve(t, { AUTH_ENABLED: "true", API_KEYS: "secret", ALLOWED_ORIGINS: origin });
    await broker.topic("orders", { "X-API-Key": "secret" });
    const page = await open(t, broker.url, { transport, key: "secret" });
    await page.ready();
    const { seq } = await page.publish({ a: "ü☃𝄞" });
    assert.equal(seq, 1);
    await heard(page, 1);
    assert.deepEqual((await page.told()).payloads, [{ a: "ü☃𝄞" }]);
    assert.equal(await page.transport(), transport);
  });

  test(`${transport}: a wrong key is final`, async (t) => {
    const broker = await serve(t, { AUTH_ENABLED: "true", API_KEYS: "secret" });
    const page = await open(t, broker.url, { transport, key: "guess" });
    await until(async () => (await page.state()) === "failed");
    assert.equal((await page.told()).states.at(-1), "failed INVALID_API_KEY");
  });

  test(`${transport}: cuts, and nothing lost or doubled`, async (t) => {
    const broker = await serve(t);
    await broker.topic("orders");
    const proxy = await stand(t, broker.port);
    const page = await open(t, proxy.url, { transport });
    await page.ready();
    const done = page.page.evaluate(async () => {
      const receipts = [];
      for (let n = 1; n <= 60; n++) {
        receipts.push(shard.publish("orders", n));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      return (await Promise.all(receipts)).map(({ seq }) => seq);
    });
    await sleep(150);
    proxy.cutAfter(90);
    await sleep(250);
    proxy.cut();
    const all = Array.from({ length: 60 }, (_, at) => at + 1);
    assert.deepEqual(await done, all);
    await heard(page, 60);
    assert.deepEqual((await page.told()).payloads, all);
    assert.deepEqual((await page.told()).gaps, []);
  });

  test(`${transport}: a broker that is killed and started again`, async (t) => {
    const broker = await serve(t);
    await broker.topic("orders");
    const page = await open(t, broker.url, { transport });
    await page.ready();
    await broker.post("orders", 1);
    await heard(page, 1);
    await broker.kill();
    await until(async () => (await page.state()) !== "open");
    await broker.start();
    await broker.topic("orders");
    await broker.post("orders", 2);
    await heard(page, 2);
    assert.deepEqual((await page.told()).gaps, [[2, null, "epoch"]]);
  });
}

test("a black hole is found", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const page = await open(t, proxy.url, { transport: "ws", heartbeatMs: 100, connectTimeoutMs: 300 });
  await page.ready();
  proxy.swallow(true);
  await until(async () => (await page.state()) !== "open", "that it is found", 3000);
  await broker.post("orders", 1);
  proxy.cut();
  proxy.swallow(false);
  await heard(page, 1);
});

test("where a WebSocket is refused, a stream", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port, { refuses: /upgrade: websocket/i });
  const page = await open(t, proxy.url);
  await page.ready();
  await page.publish(1);
  await heard(page, 1);
  assert.equal(await page.transport(), "sse");
});

test("a ticket, from the broker and from the page's own server", async (t) => {
  const broker = await serve(t, { AUTH_ENABLED: "true", API_KEYS: "secret", ALLOWED_ORIGINS: origin });
  await broker.topic("orders", { "X-API-Key": "secret" });
  const page = await open(t, broker.url, { key: "secret", ticket: true });
  await page.ready();
  assert.equal(await page.transport(), "ws");
  const seq = await page.page.evaluate(async (url) => {
    const { connect } = await import("/shardcast.js");
    const ticket = async () => {
      const response = await fetch(`${url}/tickets`, { method: "POST", headers: { "X-API-Key": "secret" } });
      return (await response.json()).ticket;
    };
    return (await connect(url, { ticket }).publish("orders", 1)).seq;
  }, broker.url);
  assert.equal(seq, 1);
});

test("a page of another origin gets nowhere, and goes on trying", async (t) => {
  const broker = await serve(t, { ALLOWED_ORIGINS: "https://example.org" });
  const page = await open(t, broker.url);
  await until(async () => (await page.told()).states.filter((state) => state.startsWith("waiting")).length > 2);
  assert.ok(!(await page.told()).states.includes("open"));
});

test("in a worker", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const page = await context.newPage();
  t.after(() => page.close());
  await page.goto(origin);
  const said = await page.evaluate(
    (url) =>
      new Promise((resolve, reject) => {
        const worker = new Worker("/worker.js", { type: "module" });
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
        worker.postMessage(url);
      }),
    broker.url,
  );
  assert.equal(said, "from a worker");
});
