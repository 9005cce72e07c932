// Without a WebSocket: an event stream, and POST.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Worker } from "node:worker_threads";
import { client, range, recorder } from "./client.js";
import { stand } from "./proxy.js";
import { serve, sleep, until } from "./server.js";

const sse = (t, url, options) => client(t, url, { transport: "sse", ...options });

test("publishes and events of several topics", async (t) => {
  const broker = await serve(t);
  for (const name of ["orders", "größe ☃/&?#%"]) await broker.topic(name);
  await broker.post("orders", 1, 2, 3);
  const shard = sse(t, broker.url);
  const [orders, other] = [recorder(), recorder()];
  await shard.subscribe("orders", { last: 2, ...orders }).ready;
  await until(() => orders.events.length === 2);
  const second = shard.subscribe("größe ☃/&?#%", other);
  await second.ready;
  assert.equal(shard.transport, "sse");
  assert.equal((await shard.publish("orders", { a: "ü\n☃" })).seq, 4);
  assert.equal((await shard.publish("größe ☃/&?#%", "x".repeat(50_000))).seq, 1);
  await until(() => orders.events.length === 3 && other.events.length === 1);
  assert.deepEqual(orders.payloads, [2, 3, { a: "ü\n☃" }]);
  assert.deepEqual([...orders.gaps, ...other.gaps], []);
  second.unsubscribe();
  await until(async () => (await shard.publish("größe ☃/&?#%", 2)).matched === 0, "the end");
  await shard.publish("orders", 5);
  await until(() => orders.events.length === 4);
  assert.equal(other.events.length, 1);
});

test("a second subscription of a topic takes nothing from the first", async (t) => {
  const broker = await serve(t, { RING_BUFFER_SIZE: "1000", SUBSCRIBER_QUEUE_SIZE: "1000" });
  await broker.topic("orders");
  const shard = sse(t, broker.url);
  const all = [recorder()];
  await shard.subscribe("orders", all[0]).ready;
  for (const n of range(1, 100)) {
    await broker.post("orders", n);
    if (n % 20 === 0) all.push(recorder()), shard.subscribe("orders", { last: 2, ...all.at(-1) });
  }
  await until(() => all.every(({ seqs }) => seqs.at(-1) === 100));
  for (const { seqs, gaps } of all) {
    assert.deepEqual(seqs, range(seqs[0], 100));
    assert.deepEqual(gaps, []);
  }
});

test("a policy holds that all topics want, and where they want several all events come", async (t) => {
  const broker = await serve(t);
  for (const name of ["prices", "rates", "audit"]) await broker.topic(name);
  const shard = sse(t, broker.url);
  const [prices, rates, audit] = [recorder(), recorder(), recorder()];
  const boards = [prices, rates];
  const post = async (from, to, names) => {
    for (const n of range(from, to)) for (const name of names) await broker.post(name, n);
  };
  await shard.subscribe("prices", { maxRate: 2, ...prices }).ready;
  await shard.subscribe("rates", { maxRate: 2, ...rates }).ready;
  // The stream for both has begun when the newest of both has come.
  await post(1, 1, ["prices", "rates"]);
  await until(() => boards.every(({ seqs }) => seqs.at(-1) === 1));
  await post(2, 60, ["prices", "rates"]);
  await until(() => boards.every(({ seqs }) => seqs.at(-1) === 60));
  for (const { events, gaps } of boards) {
    const skipped = events.reduce((sum, { skipped = 0 }) => sum + skipped, 0);
    assert.ok(skipped > 0, "no event stands for others");
    assert.equal(events.length + skipped, 60);
    assert.deepEqual(gaps, []);
  }
  await shard.subscribe("audit", audit).ready;
  const before = prices.events.length;
  await post(61, 80, ["prices", "audit"]);
  await until(() => audit.seqs.at(-1) === 20 && prices.seqs.at(-1) === 80);
  assert.deepEqual([audit.seqs, prices.seqs.slice(before)], [range(1, 20), range(61, 80)]);
});

test("what the broker refuses", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = sse(t, broker.url);
  await assert.rejects(shard.publish("nope", 1), { code: "TOPIC_NOT_FOUND" });
  await assert.rejects(shard.publish("orders", 1, { id: "seven" }), { code: "BAD_REQUEST" });
  await assert.rejects(shard.subscribe("nope").ready, { code: "TOPIC_NOT_FOUND" });
  await assert.rejects(shard.subscribe("orders.*").ready, { code: "BAD_REQUEST" });
  assert.equal((await shard.publish("orders", 1)).seq, 1);
});

test("in order, once each, over many cuts", async (t) => {
  const broker = await serve(t, { RING_BUFFER_SIZE: "1000", SUBSCRIBER_QUEUE_SIZE: "1000" });
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = sse(t, proxy.url);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  const receipts = [];
  for (const n of range(1, 150)) {
    receipts.push(shard.publish("orders", n));
    if (n % 40 === 0) proxy.cutAfter(150);
    if (n % 50 === 0) proxy.cut();
    await sleep(3);
  }
  assert.deepEqual((await Promise.all(receipts)).map(({ seq }) => seq), range(1, 150));
  await until(() => told.events.length >= 150);
  await sleep(50);
  assert.deepEqual(told.payloads, range(1, 150));
  assert.deepEqual(told.gaps, []);
});

test("killed and started again", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = sse(t, broker.url);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await shard.publish("orders", 1);
  await until(() => told.events.length === 1);
  await broker.kill();
  await until(() => shard.state !== "open");
  await broker.start();
  await broker.topic("orders");
  await broker.post("orders", 2);
  await until(() => told.events.length === 2);
  assert.deepEqual(told.payloads, [1, 2]);
  assert.deepEqual(told.gaps.map(({ from, to, reason }) => [from, to, reason]), [[2, null, "epoch"]]);
});

test("a stream in a black hole", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = sse(t, proxy.url, { streamSilenceMs: 200, connectTimeoutMs: 200 });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await broker.post("orders", 1);
  await until(() => told.events.length === 1);
  proxy.swallow(true);
  await until(() => shard.state !== "open", "that it is found", 2000);
  await broker.post("orders", 2);
  proxy.cut();
  proxy.swallow(false);
  await until(() => told.events.length === 2);
  assert.deepEqual(told.gaps, []);
});

test("one of two topics is deleted, and made again", async (t) => {
  const broker = await serve(t);
  for (const name of ["orders", "prices"]) await broker.topic(name);
  const shard = sse(t, broker.url);
  const [orders, prices] = [recorder(), recorder()];
  await shard.subscribe("orders", orders).ready;
  await shard.subscribe("prices", prices).ready;
  await broker.post("orders", 1);
  await until(() => orders.events.length === 1);
  await broker.call("DELETE", "/topics/orders");
  await until(() => orders.states.includes("waiting"));
  await broker.post("prices", 1);
  await broker.topic("orders");
  await broker.post("orders", 2);
  await until(() => orders.events.length === 2 && prices.events.length === 1);
  assert.deepEqual([orders.gaps.length, prices.gaps.length], [1, 0]);
});

test("draining: back at the broker's slot", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true", RECONNECT_SPREAD_SEC: "1" });
  const shard = sse(t, broker.url);
  await shard.publish("orders", 1);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await sleep(100);
  const during = [];
  const ended = broker.kill("SIGTERM");
  for (const n of range(1, 5)) during.push(shard.publish("orders", n));
  await ended;
  await broker.start();
  await Promise.all(during);
  const payloads = (await broker.kept("orders")).map(({ message }) => message.payload);
  assert.deepEqual([...new Set(payloads)], payloads, "none twice");
});

test("auto: where a WebSocket is refused, a stream", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port, { refuses: /upgrade: websocket/i });
  const shard = client(t, proxy.url, { transport: "auto" });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await shard.publish("orders", 1);
  await until(() => told.events.length === 1);
  assert.equal(shard.transport, "sse");
});

test("auto: where a WebSocket vanishes, a stream", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port, { ignores: /upgrade: websocket/i });
  const shard = client(t, proxy.url, { transport: "auto", connectTimeoutMs: 300 });
  assert.equal((await shard.publish("orders", 1)).seq, 1);
  assert.equal(shard.transport, "sse");
});

test("auto: where there is no WebSocket, a stream; and in a worker", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  for (const [before, carrier] of [["delete globalThis.WebSocket;", "sse"], ["", "ws"]]) {
    const program = `
      import { parentPort } from "node:worker_threads";
      import { connect } from ${JSON.stringify(new URL("../dist/shardcast.js", import.meta.url))};
      ${before}
      const shard = connect(${JSON.stringify(broker.url)});
      const subscription = shard.subscribe("orders");
      await subscription.ready;
      await shard.publish("orders", ${JSON.stringify(carrier)});
      for await (const { payload } of subscription) {
        parentPort.postMessage([payload, shard.transport]);
        break;
      }
      shard.close();`;
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(program)}`));
    t.after(() => worker.terminate());
    const said = await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    assert.deepEqual(said, [carrier, carrier]);
    assert.equal(await new Promise((resolve) => worker.once("exit", resolve)), 0, "it ends by itself");
  }
});
