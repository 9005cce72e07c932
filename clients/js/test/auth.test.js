// Keys, tokens, tickets: over a WebSocket, and over HTTP.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { connect } from "../dist/shardcast.js";
import { client, recorder } from "./client.js";
import { serve, sleep, until } from "./server.js";
import { SECRET, token } from "./token.js";

const KEYS = { AUTH_ENABLED: "true", API_KEYS: "secret", AUTO_CREATE_TOPICS: "true" };

function place(t) {
  const directory = mkdtempSync(join(tmpdir(), "shardcast-js-"));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

const tokens = (t) => {
  const file = join(place(t), "secret");
  writeFileSync(file, SECRET);
  return { AUTH_ENABLED: "true", JWT_SECRET_FILE: file, AUTO_CREATE_TOPICS: "true" };
};

for (const transport of ["ws", "sse"]) {
  test(`${transport}: a key, as a value and from a function`, async (t) => {
    const broker = await serve(t, KEYS);
    for (const key of ["secret", () => "secret", async () => "secret"])
      assert.ok((await client(t, broker.ws, { key, transport }).publish("orders", 1)).seq);
  });

  for (const [what, options, code] of [
    ["a wrong key", { key: "guess" }, "INVALID_API_KEY"],
    ["a wrong token", { token: "guess" }, "INVALID_TOKEN"],
    ["no key", {}, transport === "ws" ? "UNAUTHORIZED" : "MISSING_API_KEY"],
  ])
    test(`${transport}: ${what} is final`, async (t) => {
      const broker = await serve(t, { ...tokens(t), ...KEYS });
      const states = [];
      const shard = client(t, broker.ws, { ...options, transport, onState: (state) => states.push(state) });
      const told = recorder();
      const subscription = shard.subscribe("orders", told);
      await assert.rejects(shard.publish("orders", 1), { code });
      await assert.rejects(subscription.ready, { code });
      await sleep(200);
      assert.deepEqual(states.filter((state) => state !== "open"), ["connecting", "failed"].slice(states.includes("connecting") ? 0 : 1));
      assert.equal(told.states.at(-1), "failed");
      await assert.rejects(shard.publish("orders", 2), { code });
      await assert.rejects(shard.subscribe("orders").ready, { code });
    });

  test(`${transport}: a token is renewed before it ends`, async (t) => {
    const broker = await serve(t, tokens(t));
    const lost = [];
    let asked = 0;
    const fresh = () => (asked++, token(2));
    const shard = client(t, broker.ws, { token: fresh, transport, onState: (state, error) => error && lost.push(error) });
    const told = recorder();
    await shard.publish("orders", 0);
    await shard.subscribe("orders", told).ready;
    for (let n = 1; n <= 8; n++) {
      await sleep(450);
      await shard.publish("orders", n);
    }
    await until(() => told.events.length === 8);
    assert.ok(asked >= 3, `${asked} tokens`);
    assert.deepEqual(lost, []);
    assert.deepEqual(told.gaps, []);
  });

  test(`${transport}: where no fresh token is to be had, the next connection asks again`, async (t) => {
    const broker = await serve(t, tokens(t));
    let asked = 0;
    // The second and third time whoever makes tokens is not there.
    const flaky = async () => {
      if (++asked === 2 || asked === 3) throw new Error("no token today");
      return token(2);
    };
    const errors = [];
    const shard = client(t, broker.ws, { token: flaky, transport, onState: (_, error) => error && errors.push(error.message) });
    const told = recorder();
    await shard.publish("orders", 0);
    await shard.subscribe("orders", told).ready;
    await until(() => asked >= 4, "a new token", 5000);
    await shard.publish("orders", 1);
    await until(() => told.events.length === 1);
    assert.ok(errors.includes("no token today"), errors.join());
  });

  test(`${transport}: a right that is taken away ends the subscription`, async (t) => {
    const file = join(place(t), "keys.toml");
    const write = (subscribe) =>
      writeFileSync(
        file,
        `[[key]]\nname = "reader"\nsha256 = "${createHash("sha256").update("sc_reader").digest("hex")}"\n` +
          `subscribe = ${JSON.stringify(subscribe)}\npublish = []\n`,
      );
    write(["orders", "prices"]);
    const broker = await serve(t, { ...KEYS, API_KEYS_FILE: file });
    for (const name of ["orders", "prices"]) await broker.topic(name, { "X-API-Key": "secret" });
    const shard = client(t, broker.ws, { key: "sc_reader", transport });
    await assert.rejects(shard.publish("orders", 1), { code: "FORBIDDEN" });
    await assert.rejects(shard.subscribe("other").ready, { code: "FORBIDDEN" });
    const [orders, prices] = [recorder(), recorder()];
    await shard.subscribe("orders", orders).ready;
    await shard.subscribe("prices", prices).ready;
    await sleep(100);
    write(["prices"]);
    broker.signal("SIGHUP");
    await until(() => orders.states.at(-1) === "failed", "the end of the right");
    assert.equal(orders.errors.at(-1).code, "FORBIDDEN");
    await client(t, broker.ws, { key: "secret" }).publish("prices", 1);
    await until(() => prices.events.length === 1);
    assert.deepEqual(prices.gaps, []);
  });
}

test("tickets: the broker's, and those of a function", async (t) => {
  const broker = await serve(t, KEYS);
  const urls = [];
  class Watched extends WebSocket {
    constructor(url) {
      super(url);
      urls.push(url);
    }
  }
  const own = client(t, broker.ws, { key: "secret", ticket: true, WebSocket: Watched });
  assert.equal((await own.publish("orders", 1)).seq, 1);
  assert.match(urls[0], /\?ticket=[0-9a-f]{64}$/);
  const page = async () => (await broker.call("POST", "/tickets", undefined, { "X-API-Key": "secret" })).ticket;
  const shard = client(t, broker.ws, { ticket: page, transport: "auto", WebSocket: Watched });
  assert.equal((await shard.publish("orders", 2)).seq, 2);
  await broker.kill();
  await broker.start();
  assert.equal((await shard.publish("orders", 3)).seq, 1);
});

test("tickets: a wrong key is final here too", async (t) => {
  const broker = await serve(t, KEYS);
  const shard = client(t, broker.ws, { key: "guess", ticket: true });
  await assert.rejects(shard.publish("orders", 1), { code: "INVALID_API_KEY" });
  assert.equal(shard.state, "failed");
});

test("a key whose function fails is asked for again", async (t) => {
  const broker = await serve(t, KEYS);
  let asked = 0;
  const key = () => {
    if (++asked < 3) throw new Error("not yet");
    return "secret";
  };
  assert.equal((await client(t, broker.ws, { key }).publish("orders", 1)).seq, 1);
  assert.equal(asked, 3);
});

test("closed while the key is awaited, nothing is opened", async (t) => {
  const broker = await serve(t, KEYS);
  let give;
  const shard = connect(broker.ws, { key: () => new Promise((resolve) => (give = resolve)) });
  shard.close();
  give("secret");
  await sleep(100);
  const { connections } = await broker.call("GET", "/connections", undefined, { "X-API-Key": "secret" });
  assert.deepEqual(connections, []);
});
