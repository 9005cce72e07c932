// What everybody does, against a real broker.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { ShardcastError } from "../dist/shardcast.js";
import { client, range, recorder } from "./client.js";
import { serve, until } from "./server.js";

test("publishes and events", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const states = [];
  const shard = client(t, broker.ws, { clientId: "näme", onState: (state) => states.push(state) });
  const told = recorder();
  const subscription = shard.subscribe("orders", told);
  await subscription.ready;
  const payloads = [{ a: [1, null, "ü☃𝄞"] }, "text", 3, null, false];
  for (const [at, payload] of payloads.entries()) {
    const receipt = await shard.publish("orders", payload);
    assert.match(receipt.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$/);
    assert.deepEqual({ ...receipt, id: 0 }, { id: 0, seq: at + 1, matched: 1 });
  }
  // On one connection its own event comes before the receipt.
  assert.deepEqual(told.payloads, payloads);
  assert.deepEqual(Object.keys(told.events[0]).sort(), ["epoch", "id", "payload", "seq", "topic", "ts"]);
  assert.deepEqual(subscription.position, { epoch: told.events[0].epoch, seq: 5 });
  assert.deepEqual(states, ["connecting", "open"].slice(states[0] === "open"));
  assert.equal(shard.transport, "ws");
  assert.equal((await broker.call("GET", "/connections")).connections[0].client_id, "näme");
});

test("undefined is null, and what is no JSON is refused", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true" });
  const shard = client(t, broker.ws);
  await shard.publish("a", undefined);
  await assert.rejects(shard.publish("a", 1n), TypeError);
  assert.deepEqual((await broker.kept("a")).map(({ message }) => message.payload), [null]);
});

test("the past: the newest, or all behind a position", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  await broker.post("orders", ...range(1, 9));
  const shard = client(t, broker.ws);
  const newest = recorder();
  await shard.subscribe("orders", { last: 3, ...newest }).ready;
  await until(() => newest.events.length === 3);
  assert.deepEqual(newest.payloads, [7, 8, 9]);

  const { epoch } = newest.events[0];
  const behind = recorder();
  await shard.subscribe("orders", { since: { epoch, seq: 5 }, ...behind }).ready;
  await shard.publish("orders", 10);
  await until(() => behind.events.length === 5);
  assert.deepEqual(behind.payloads, [6, 7, 8, 9, 10]);
  // Two subscriptions of one topic: each has its own order, without a repeat.
  assert.deepEqual(newest.payloads, [7, 8, 9, 10]);
  assert.deepEqual([...newest.gaps, ...behind.gaps], []);
});

test("a loop over events, and its end", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const subscription = shard.subscribe("orders");
  await subscription.ready;
  for (const n of [1, 2, 3]) shard.publish("orders", n);
  const seen = [];
  for await (const { payload } of subscription) {
    seen.push(payload);
    if (payload === 3) break;
  }
  assert.deepEqual(seen, [1, 2, 3]);
  assert.equal(subscription.state, "ended");
  await until(async () => (await shard.publish("orders", 4)).matched === 0, "the end");
});

test("a loop that does not keep up loses the oldest, and is told which", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const { gaps, onGap } = recorder();
  const subscription = shard.subscribe("orders", { bufferMax: 3, onGap });
  await subscription.ready;
  await Promise.all(range(1, 5).map((n) => shard.publish("orders", n)));
  assert.deepEqual(gaps.map(({ from, to, lost, reason }) => [from, to, lost, reason]), [[1, 1, 1, "slow"], [2, 2, 1, "slow"]]);
  subscription.unsubscribe();
});

test("after unsubscribe nothing is told, and others go on", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const [one, other] = [recorder(), recorder()];
  const first = shard.subscribe("orders", one);
  await first.ready;
  await shard.subscribe("orders", other).ready;
  await shard.publish("orders", 1);
  first.unsubscribe();
  assert.equal((await shard.publish("orders", 2)).matched, 1);
  assert.deepEqual([one.payloads, other.payloads], [[1], [1, 2]]);
  assert.deepEqual(one.states, ["live", "ended"]);
});

test("what the broker refuses reaches the caller", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const refusal = (code) => (error) => error instanceof ShardcastError && error.name === "ShardcastError" && error.code === code;
  await assert.rejects(shard.publish("nope", 1), refusal("TOPIC_NOT_FOUND"));
  await assert.rejects(shard.publish("orders", 1, { id: "seven" }), refusal("BAD_REQUEST"));
  await assert.rejects(shard.publish("bad\u0000name", 1), refusal("BAD_REQUEST"));
  await assert.rejects(shard.subscribe("nope").ready, refusal("TOPIC_NOT_FOUND"));
  const told = recorder();
  await assert.rejects(shard.subscribe("orders", { ...told, last: 1.5 }).ready, refusal("BAD_REQUEST"));
  assert.deepEqual([told.states, told.errors[0].code], [["failed"], "BAD_REQUEST"]);
  await assert.rejects(async () => {
    for await (const event of shard.subscribe("nope")) assert.fail(event);
  }, refusal("TOPIC_NOT_FOUND"));
  assert.equal((await shard.publish("orders", "still here")).seq, 1);
});

test("a message that is too long is refused, and only that", async (t) => {
  const broker = await serve(t, { MAX_MESSAGE_SIZE: "1000" });
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const all = await Promise.allSettled([1, "x".repeat(2000), 3].map((payload) => shard.publish("orders", payload)));
  assert.deepEqual(all.map(({ value, reason }) => value?.seq ?? reason.code), [1, "MESSAGE_TOO_LARGE", 2]);
});

test("what a user's callback throws is the user's, and stops nothing", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  // In a process of its own, since the test runner takes what nobody catches.
  const program = `
    import { connect } from ${JSON.stringify(new URL("../dist/shardcast.js", import.meta.url))};
    process.on("uncaughtException", ({ message }) => console.log(message));
    const shard = connect(${JSON.stringify(broker.ws)});
    const onEvent = ({ payload }) => {
      console.log(payload);
      if (payload === 1) throw new Error("mine");
    };
    await shard.subscribe("orders", { onEvent }).ready;
    await shard.publish("orders", 1);
    await shard.publish("orders", 2);
    shard.close();`;
  const flags = ["--experimental-websocket", "--input-type=module", "--eval", program];
  const { stdout } = await promisify(execFile)(process.execPath, flags, { timeout: 10_000 });
  assert.deepEqual(stdout.trim().split("\n").sort(), ["1", "2", "mine"]);
});

test("close ends everything", async (t) => {
  const broker = await serve(t);
  await broker.topic("orders");
  const shard = client(t, broker.ws);
  const told = recorder();
  await shard.subscribe("orders", told).ready;
  const offline = client(t, "ws://127.0.0.1:9/ws");
  const waiting = offline.publish("orders", 1);
  shard.close();
  offline.close();
  await assert.rejects(waiting, { code: "CLOSED" });
  await assert.rejects(shard.publish("orders", 1), { code: "CLOSED" });
  await assert.rejects(shard.subscribe("orders").ready, { code: "CLOSED" });
  assert.deepEqual([shard.state, told.states.at(-1)], ["closed", "ended"]);
  await until(async () => (await broker.call("GET", "/connections")).connections.length === 0, "the end");
});

test("any spelling of the address", async (t) => {
  const broker = await serve(t, { AUTO_CREATE_TOPICS: "true" });
  for (const url of [broker.url, `${broker.url}/`, `${broker.url}/ws`, `${broker.ws}/`, new URL(broker.ws)])
    assert.ok((await client(t, url).publish("orders", 1)).seq);
});
