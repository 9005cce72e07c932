// What networks and brokers do to a client: nothing may be lost without a word, doubled, or out of order.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, range, recorder } from "./client.js";
import { stand } from "./proxy.js";
import { serve, sleep, until } from "./server.js";

test("cuts: all of 300 publishes come, once and in order", async (t) => {
  const broker = await serve(t, { RING_BUFFER_SIZE: "1000", SUBSCRIBER_QUEUE_SIZE: "1000" });
  await broker.topic("orders");
  const proxies = [await stand(t, broker.port), await stand(t, broker.port)];
  const [publisher, subscriber] = proxies.map(({ url }) => client(t, url));
  const told = recorder();
  await subscriber.subscribe("orders", told).ready;
  const receipts = [];
  for (const n of range(1, 300)) {
    receipts.push(publisher.publish("orders", n));
    // In the middle of a frame, now and then, in both directions of the path.
    if (n % 30 === 0) proxies[0].cutAfter(97);
    if (n % 50 === 0) proxies[1].cutAfter(211);
    if (n % 70 === 0) proxies[0].cut();
    await sleep(2);
  }
  const seqs = (await Promise.all(receipts)).map(({ seq }) => seq);
  await until(() => told.events.length >= 300, "the events");
  await sleep(50);
  const kept = await broker.kept("orders");
  assert.deepEqual(kept.map(({ message }) => message.payload), range(1, 300), "the broker has each once, in order");
  assert.deepEqual(told.payloads, range(1, 300), "the subscriber too");
  assert.deepEqual(seqs, range(1, 300), "and the receipts say where");
  assert.deepEqual(told.gaps, []);
  assert.ok(told.states.filter((state) => state === "live").length > 2, "it was cut off");
});

test("a cut that eats the answer: the repeat is known as one", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url);
  await shard.publish("orders", "first");
  proxy.cutAfter(10);
  const { seq, duplicate } = await shard.publish("orders", "second");
  assert.deepEqual({ seq, duplicate }, { seq: 2, duplicate: true });
  assert.equal((await broker.kept("orders")).length, 2);
  proxy.cutAfter(10);
  await assert.rejects(shard.publish("orders", "third", { once: false }), { code: "CONNECTION_LOST" });
});

test("a black hole is found, and left", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url, { heartbeatMs: 60, connectTimeoutMs: 200 });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await broker.post("orders", 1);
  await until(() => told.events.length === 1);
  proxy.swallow(true);
  const began = Date.now();
  await until(() => shard.state !== "open", "that it is found", 2000);
  assert.ok(Date.now() - began >= 60);
  await broker.post("orders", 2, 3);
  // New ones vanish there too.
  await sleep(300);
  proxy.cut();
  proxy.swallow(false);
  await until(() => told.events.length === 3, "what was missed");
  assert.deepEqual(told.payloads, [1, 2, 3]);
  assert.deepEqual(told.gaps, []);
});

test("a slow path is no dead one", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  proxy.delay(80);
  let lost = 0;
  const shard = client(t, proxy.url, { heartbeatMs: 300, onState: (state) => (lost += state === "waiting") });
  await shard.publish("orders", 1);
  await sleep(900);
  assert.equal((await shard.publish("orders", 2)).seq, 2);
  assert.equal(lost, 0);
});

test("killed and started again: another epoch, said as a gap", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await shard.publish("orders", "before");
  const [{ epoch: old }] = told.events;
  await broker.kill();
  await until(() => shard.state !== "open");
  // A topic is not there until somebody makes it again; a publish says so, a subscription waits.
  const refused = assert.rejects(shard.publish("orders", "meanwhile"), { code: "TOPIC_NOT_FOUND" });
  await broker.start();
  await refused;
  await until(() => told.states.at(-1) === "waiting");
  assert.equal(told.errors.at(-1).code, "TOPIC_NOT_FOUND");
  await broker.topic("orders");
  await broker.post("orders", "after");
  await until(() => told.events.length === 2, "an event");
  const { epoch } = told.events[1];
  assert.notEqual(epoch, old);
  assert.deepEqual(told.gaps, [{ topic: "orders", epoch: old, from: 2, to: null, lost: null, reason: "epoch" }]);
  assert.deepEqual(told.seqs, [1, 1]);
});

test("killed and started again, with topics that make themselves: the queue comes through", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true" });
  const shard = client(t, broker.ws);
  await shard.publish("orders", 0);
  await broker.kill();
  const receipts = range(1, 20).map((n) => shard.publish("orders", n));
  await broker.start();
  assert.deepEqual((await Promise.all(receipts)).map(({ seq }) => seq), range(1, 20));
  assert.deepEqual((await broker.kept("orders")).map(({ message }) => message.payload), range(1, 20));
});

test("frozen and thawed: nothing is lost or doubled", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws, { heartbeatMs: 60, connectTimeoutMs: 150 });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await shard.publish("orders", 1);
  broker.signal("SIGSTOP");
  const receipts = [shard.publish("orders", 2), shard.publish("orders", 3)];
  await until(() => shard.state !== "open", "that it is found", 2000);
  await sleep(300);
  broker.signal("SIGCONT");
  await Promise.all(receipts);
  await until(() => told.events.length >= 3);
  await sleep(100);
  assert.deepEqual(told.payloads, [1, 2, 3]);
  assert.equal((await broker.kept("orders")).length, 3);
});

test("frozen for less than a heartbeat: nobody notices", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  let lost = 0;
  const shard = client(t, broker.ws, { heartbeatMs: 300, onState: (state) => (lost += state === "waiting") });
  await shard.publish("orders", 1);
  broker.signal("SIGSTOP");
  await sleep(250);
  broker.signal("SIGCONT");
  assert.equal((await shard.publish("orders", 2)).seq, 2);
  assert.equal(lost, 0);
});

test("away for longer than the history reaches: the exact range", async (t) => {
  const broker = await serve(t, { RING_BUFFER_SIZE: "5" });
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url, { backoffMs: 300, backoffMaxMs: 300 });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await broker.post("orders", 1, 2);
  await until(() => told.events.length === 2);
  proxy.swallow(true);
  proxy.cut();
  await broker.post("orders", ...range(3, 20));
  proxy.cut();
  proxy.swallow(false);
  await until(() => told.seqs.at(-1) === 20, "the rest");
  const { epoch } = told.events[0];
  assert.deepEqual(told.gaps, [{ topic: "orders", epoch, from: 3, to: 15, lost: 13, reason: "history" }]);
  assert.deepEqual(told.seqs, [1, 2, ...range(16, 20)]);
});

test("a slow consumer: gaps and events make up all there was", async (t) => {
  const broker = await serve(t, { SUBSCRIBER_QUEUE_SIZE: "10", RING_BUFFER_SIZE: "10", SOCKET_UNSENT_MAX: "4096" });
  await broker.topic("orders");
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  proxy.stall(true);
  const payload = "x".repeat(20_000);
  for (let n = 0; n < 60; n++) await broker.post("orders", ...Array(10).fill(payload));
  proxy.stall(false);
  await until(() => told.seqs.at(-1) === 600, "the last one");
  assert.ok(told.gaps.length > 0, "it was too slow");
  assert.ok(told.gaps.every(({ reason }) => reason === "slow"));
  const missing = told.gaps.flatMap(({ from, to, lost }) => {
    assert.equal(lost, to - from + 1);
    return range(from, to);
  });
  assert.deepEqual([...told.seqs, ...missing].sort((a, b) => a - b), range(1, 600));
  assert.deepEqual(told.states, ["live"], "on one connection");
});

test("a topic that is deleted and made again", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  await broker.post("orders", 1);
  await broker.call("DELETE", "/topics/orders");
  await until(() => told.states.includes("waiting"));
  await broker.topic("orders");
  await broker.post("orders", 2);
  await until(() => told.events.length === 2);
  assert.deepEqual(told.payloads, [1, 2]);
  assert.deepEqual(told.gaps.map(({ from, to }) => [from, to]), [[2, null]]);
});

test("the queue has a bound, by count and by bytes", async (t) => {
  const publish = (shard, payload) => shard.publish("orders", payload).catch(({ code }) => code);
  const few = client(t, "ws://127.0.0.1:9/ws", { queueMax: 3 });
  const many = range(1, 5).map((n) => publish(few, n));
  const small = client(t, "ws://127.0.0.1:9/ws", { queueBytesMax: 1000 });
  // In bytes, not in letters.
  const long = [1, 2].map(() => publish(small, "ü".repeat(300)));
  await sleep(50);
  few.close();
  small.close();
  assert.deepEqual(await Promise.all(many), ["CLOSED", "CLOSED", "CLOSED", "QUEUE_FULL", "QUEUE_FULL"]);
  assert.deepEqual(await Promise.all(long), ["CLOSED", "QUEUE_FULL"]);
});

test("what is queued before there is a broker comes through", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true" });
  await broker.kill();
  const shard = client(t, broker.ws);
  const told = recorder();
  shard.subscribe("orders", told);
  const receipts = range(1, 10).map((n) => shard.publish("orders", n));
  await until(() => shard.state === "waiting");
  await broker.start();
  await Promise.all(receipts);
  assert.deepEqual(told.payloads, range(1, 10));
});

test("draining: back at the slot that the broker gives", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true", RECONNECT_SPREAD_SEC: "1", DRAIN_GRACE_MS: "200" });
  const times = [];
  const shard = client(t, broker.ws, { onState: (state) => times.push([state, Date.now()]) });
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  const slot = new Promise((resolve) => {
    const watch = new WebSocket(broker.ws);
    watch.onmessage = ({ data }) => data.includes("shutting_down") && resolve(JSON.parse(data).retry_after_ms);
  });
  await until(async () => (await broker.call("GET", "/connections")).connections.length === 2);
  const ended = broker.kill("SIGTERM");
  assert.ok((await slot) <= 1000);
  const during = shard.publish("orders", "during");
  await ended;
  await broker.start();
  await during;
  assert.deepEqual(told.payloads, ["during"]);
  const at = (state, from) => times.findIndex(([name], at) => at > from && name === state);
  const lost = at("waiting", 0);
  const waited = times[at("connecting", lost)][1] - times[lost][1];
  assert.ok(waited <= 1100, `${waited} ms`);
});

test("rates: an unsubscribe that came too soon is sent again too", async (t) => {
  const broker = await serve(t, { RATE_MESSAGES_PER_SEC: "20", RATE_BURST_MESSAGES: "4" });
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const subscription = shard.subscribe("orders");
  await subscription.ready;
  await Promise.all([1, 2, 3].map((n) => shard.publish("orders", n)));
  subscription.unsubscribe();
  const left = async () => (await broker.call("GET", "/topics")).topics?.[0].subscribers === 0;
  await until(left, "the end of the subscription");
});

test("rates: what came too soon is sent again when it is time", async (t) => {
  const broker = await serve(t, { RATE_MESSAGES_PER_SEC: "100", RATE_BURST_MESSAGES: "20" });
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const receipts = await Promise.all(range(1, 60).map((n) => shard.publish("orders", n)));
  assert.deepEqual(receipts.map(({ seq }) => seq).sort((a, b) => a - b), range(1, 60));
});
