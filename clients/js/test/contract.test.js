// What server and all clients share: tests/contract at the root of the repository.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { connect, matches } from "../dist/shardcast.js";
import { until } from "./server.js";

const read = (name) => JSON.parse(readFileSync(new URL(`../../../tests/contract/${name}.json`, import.meta.url)));

/** A WebSocket whose other end is the test. */
class Played {
  static made = [];
  sent = [];
  constructor(url) {
    this.url = url;
    Played.made.push(this);
  }
  open() {
    this.onopen({});
  }
  say(data) {
    this.onmessage?.({ data });
  }
  end(code) {
    this.onclose?.({ code });
  }
  send(frame) {
    this.sent.push(frame);
  }
  close() {}
}

const bare = (frame) => frame.replace(/,"request_id":"[^"]*"}$/, "}");

function start(t, options = {}) {
  Played.made = [];
  const client = connect("ws://played/ws", {
    ...options,
    WebSocket: Played,
    transport: "ws",
    backoffMs: 1,
    backoffMaxMs: 1,
  });
  t.after(() => client.close());
  return client;
}

/** Makes a call of the vectors; `tell` hears what comes of it. */
function make(client, call, tell = () => {}) {
  if (call.subscribe !== undefined) {
    const { subscribe, ...options } = call;
    return client.subscribe(subscribe, {
      ...options,
      onEvent: (event) => tell({ event }),
      onGap: (gap) => tell({ gap }),
      onState: (state, error) => {
        if (state === "failed") tell({ refused: { code: error.code } });
        if (state === "waiting") tell({ waiting: { topic: subscribe } });
      },
    });
  }
  const { publish, payload, ...options } = call;
  client.publish(publish, payload, options).then(
    (receipt) => tell({ receipt }),
    (error) => tell({ refused: { code: error.code } }),
  );
}

for (const { pattern, name, matches: expected } of read("patterns").vectors)
  test(`'${pattern}' and '${name}'`, () => assert.equal(matches(pattern, name), expected));

for (const { name, call, frame } of read("frames").commands)
  test(`frame: ${name}`, async (t) => {
    const options = { ...call.auth, ...(call.ping && { heartbeatMs: 5 }) };
    const client = start(t, options);
    const socket = await until(() => Played.made[0]);
    const topic = call.unsubscribe && client.subscribe(call.unsubscribe);
    if (call.subscribe || call.publish) make(client, call);
    socket.open();
    topic?.unsubscribe();
    assert.equal(bare(await until(() => socket.sent[topic ? 1 : 0])), frame);
  });

for (const { name, options, steps } of read("sessions").sessions)
  test(`session: ${name}`, async (t) => {
    const told = [];
    let tell = (what) => told.push(what);
    const client = start(t, { ...options, onState: (state) => state === "failed" && tell({ state }) });
    const ids = [];
    let opened = 0;
    let socket;
    for (const step of steps) {
      if (step.call) make(client, step.call, (what) => tell(what));
      else if (step.open) {
        socket = await until(() => Played.made[opened]);
        opened++;
        socket.open();
      } else if (step.client) {
        const frame = await until(() => socket.sent.shift(), step.client);
        assert.equal(bare(frame), step.client);
        ids.unshift(JSON.parse(frame).request_id);
      } else if (step.server) {
        socket.say(step.server.replace(/"request_id":"\?(2?)"/, (_, last) => `"request_id":"${ids[last ? 1 : 0]}"`));
        // A promise tells a moment later.
        await new Promise(setImmediate);
      } else if (step.cut) socket.end(1006);
      else if (step.close) socket.end(step.close);
      else {
        await until(() => told.length >= step.tells.length, JSON.stringify(step.tells)).catch(() => {});
        await new Promise(setImmediate);
        const cut = (got, wanted) =>
          wanted && typeof wanted === "object"
            ? Object.fromEntries(Object.keys(wanted).map((key) => [key, cut(got?.[key], wanted[key])]))
            : got;
        assert.deepEqual(told.map((what, at) => cut(what, step.tells[at] ?? what)), step.tells);
      }
    }
    // What its end tells is not part of it.
    tell = () => {};
  });
