// Patterns and policies, against a broker that has them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { client, range, recorder } from "./client.js";
import { stand } from "./proxy.js";
import { serve, until } from "./server.js";

/** A broker with these topics, or nothing where it is one without patterns. */
async function patterned(t, topics, settings) {
  const broker = await serve(t, settings);
  const probe = client(t, broker.ws);
  const known = await probe.subscribe(">").ready.then(() => true, ({ code }) => code !== "BAD_REQUEST");
  probe.close();
  if (!known) return t.skip("this broker has no patterns");
  for (const name of topics) await broker.topic(name);
  return broker;
}

const places = ({ events }) => events.map(({ topic, seq }) => `${topic} ${seq}`);

test("topics that are, and that come", async (t) => {
  const broker = await patterned(t, ["orders.eu", "prices.eu"]);
  if (!broker) return;
  await broker.post("orders.eu", 1, 2, 3);
  const shard = client(t, broker.ws);
  const told = recorder();
  const subscription = shard.subscribe("orders.*", { last: 2, ...told });
  await subscription.ready;
  await broker.topic("orders.us");
  await broker.post("orders.us", 1);
  await broker.post("prices.eu", 1);
  await broker.post("orders.eu", 4);
  await until(() => told.events.length === 4);
  assert.deepEqual(places(told).sort(), ["orders.eu 2", "orders.eu 3", "orders.eu 4", "orders.us 1"]);
  assert.deepEqual(told.gaps, []);
  assert.deepEqual(Object.keys(subscription.position).sort(), ["orders.eu", "orders.us"]);
});

test("an event comes once to each of those that mean it", async (t) => {
  const broker = await patterned(t, ["orders.eu"]);
  if (!broker) return;
  const shard = client(t, broker.ws);
  const all = [recorder(), recorder(), recorder()];
  const subscriptions = ["orders.*", ">", "orders.eu"].map((name, at) => shard.subscribe(name, all[at]));
  await Promise.all(subscriptions.map(({ ready }) => ready));
  await shard.publish("orders.eu", 1);
  subscriptions[1].unsubscribe();
  await shard.publish("orders.eu", 2);
  assert.deepEqual(all.map(({ seqs }) => seqs), [[1, 2], [1], [1, 2]]);
});

test("after a cut each topic goes on where it was, new ones from their beginning", async (t) => {
  const broker = await patterned(t, ["orders.eu", "orders.us", "orders.uk"], { RING_BUFFER_SIZE: "5" });
  if (!broker) return;
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url, { backoffMs: 300, backoffMaxMs: 300 });
  const told = recorder();
  await shard.subscribe("orders.*", told).ready;
  await broker.post("orders.eu", 1, 2);
  await broker.post("orders.us", 1);
  await broker.post("orders.uk", 1);
  await until(() => told.events.length === 4);
  proxy.swallow(true);
  proxy.cut();
  await broker.post("orders.eu", ...range(3, 10));
  await broker.post("orders.us", 2);
  await broker.topic("orders.fr");
  await broker.post("orders.fr", 1);
  await broker.call("DELETE", "/topics/orders.uk");
  proxy.cut();
  proxy.swallow(false);
  await until(() => told.events.length === 11, "the rest");
  assert.deepEqual(
    places(told).slice(4).sort(),
    ["orders.eu 10", ...range(6, 9).map((n) => `orders.eu ${n}`), "orders.fr 1", "orders.us 2"],
  );
  assert.deepEqual(
    told.gaps.map(({ topic, from, to, lost, reason }) => [topic, from, to, lost, reason]).sort(),
    [["orders.eu", 3, 5, 3, "history"], ["orders.uk", 2, null, null, "epoch"]],
  );
});

test("a broker that is started again: every topic is another one", async (t) => {
  const broker = await patterned(t, ["orders.eu"]);
  if (!broker) return;
  const shard = client(t, broker.ws);
  const told = recorder();
  await shard.subscribe("orders.*", told).ready;
  await broker.post("orders.eu", 1);
  await until(() => told.events.length === 1);
  await broker.kill();
  await broker.start();
  await until(() => shard.state === "open");
  await broker.topic("orders.eu");
  await broker.post("orders.eu", 2);
  await until(() => told.events.length === 2);
  assert.deepEqual(told.payloads, [1, 2]);
  assert.deepEqual(told.gaps.map(({ from, to }) => [from, to]), [[2, null]]);
});

test("more topics than a command has room for: what was missed is told", async (t) => {
  const names = range(1, 1500).map((n) => `orders.${n}`);
  const broker = await patterned(t, names);
  if (!broker) return;
  const proxy = await stand(t, broker.port);
  const shard = client(t, proxy.url, { backoffMs: 300, backoffMaxMs: 300 });
  const told = recorder();
  await shard.subscribe("orders.>", told).ready;
  await broker.post("orders.7", 1);
  await until(() => told.events.length === 1);
  proxy.swallow(true);
  proxy.cut();
  await broker.post("orders.7", 2, 3);
  proxy.cut();
  proxy.swallow(false);
  await until(() => shard.state === "open" && told.gaps.length, "a gap");
  await broker.post("orders.7", 4);
  await until(() => told.events.length === 2);
  assert.deepEqual(told.gaps.map(({ topic, from, to, lost }) => [topic, from, to, lost]), [["orders.7", 2, 3, 2]]);
  assert.deepEqual(told.seqs, [1, 4]);
});

test("the newest only, and so many a second: what is skipped is no gap", async (t) => {
  const broker = await patterned(t, ["prices"]);
  if (!broker) return;
  const shard = client(t, broker.ws);
  await assert.rejects(shard.subscribe("prices", { policy: "none such" }).ready, /latest/);
  const told = recorder();
  await shard.subscribe("prices", { maxRate: 10, ...told }).ready;
  for (const n of range(1, 50)) await broker.post("prices", n);
  await until(() => told.seqs.at(-1) === 50, "the newest");
  assert.ok(told.events.length < 25, `${told.events.length} events`);
  assert.deepEqual(told.gaps, []);
  const skipped = told.events.reduce((sum, event) => sum + (event.skipped ?? 0), 0);
  assert.equal(skipped + told.events.length, 50);
});
