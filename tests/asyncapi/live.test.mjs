// Every command of the document, sent to the broker that runs; every message that the document has, heard.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { call, connect, listen, serve } from "./broker.mjs";
import { operations, unheard } from "./document.mjs";

const place = mkdtempSync(join(tmpdir(), "asyncapi-"));
after(() => rmSync(place, { recursive: true }));

const examples = operations.flatMap((operation) =>
  operation.commands.flatMap((command) =>
    command.examples.map(({ name, payload }) => ({ operation, name: `${command.id}: ${name}`, payload }))),
);
const [proofs, requests] = [true, false].map((isAuth) =>
  examples.filter(({ operation }) => (operation.id === "auth") === isAuth));

const TOPICS = ["orders", "orders.eu"];
async function create(broker, headers) {
  for (const name of TOPICS) await call(broker, "POST", "/topics", { name }, headers);
}

let open;
before(async () => {
  open = await serve();
  await create(open);
});

for (const { operation, name, payload } of requests) {
  test(`${name} is carried out`, async () => {
    const connection = await connect(open, "?client_id=example");
    const answer = await connection.ask(operation, payload);
    if (payload.ack === false) assert.equal(answer, undefined);
    else assert.equal(answer?.id, operation.answers[0].id, JSON.stringify(answer));
    assert.equal(answer?.payload.request_id, payload.request_id);
    connection.close();
  });
}

/** The command with each of its values in turn replaced by something else, or taken out. */
function* spoiled(value, put = (other) => other) {
  for (const other of [undefined, null, -1, 1.5, 4e9, "", "x", "*", "a>", true, [], {}]) yield put(other);
  if (value === null || typeof value !== "object" || Array.isArray(value)) return;
  for (const [name, inner] of Object.entries(value)) {
    yield* spoiled(inner, (other) => put({ ...value, [name]: other }));
  }
}

test("whatever is wrong with a command, the answer is one that it may have", async () => {
  const connection = await connect(open);
  for (const { operation, payload } of examples) {
    for (const command of spoiled(payload)) {
      // A subscribe whose topic has become a pattern is a good one of another operation.
      const meant = operations.find(({ commands }) => commands.some((one) => one.fault(command) === undefined));
      if (command !== undefined) await connection.ask(meant ?? operation, command);
    }
  }
  connection.close();
});

const secret = "a secret that is long enough for HS256";
const digest = (key) => createHash("sha256").update(key).digest("hex");
const keyTable = (name, rights) => `[[key]]\nname = "${name}"\nsha256 = "${digest(name)}"\n${rights}\n`;
let guarded;
before(async () => {
  writeFileSync(join(place, "secret"), secret);
  writeFileSync(join(place, "keys.toml"), keyTable("nobody", "") + keyTable("reader", 'subscribe = ["orders", "orders.eu"]'));
  guarded = await serve({
    AUTH_ENABLED: "true",
    API_KEYS: "secret",
    API_KEYS_FILE: join(place, "keys.toml"),
    JWT_SECRET_FILE: join(place, "secret"),
    SHUTDOWN_TIMEOUT_SEC: "2",
  });
  await create(guarded, { "X-API-Key": "secret" });
});

for (const { operation, name, payload } of proofs) {
  test(`${name} is taken`, async () => {
    const connection = await connect(guarded);
    assert.equal((await connection.ask(operation, payload))?.id, "authenticated");
    connection.close();
  });
}

test("a header or a ticket is as good as an auth", async () => {
  const ping = requests.find(({ operation }) => operation.id === "ping");
  const { payload: proof } = proofs.find(({ payload }) => payload.token);
  const { ticket } = await call(guarded, "POST", "/tickets", undefined, { "X-API-Key": "secret" });
  for (const [query, headers] of [
    ["", { "X-API-Key": "secret" }],
    ["", { Authorization: `Bearer ${proof.token}` }],
    [`?ticket=${ticket}`, {}],
  ]) {
    const connection = await connect(guarded, query, headers);
    assert.equal((await connection.ask(ping.operation, ping.payload))?.id, "pong");
    connection.close();
  }
});

test("who has not said who it is, or may not, is refused in the words of the document", async () => {
  for (const { operation, payload } of requests) {
    const stranger = await connect(guarded);
    assert.equal((await stranger.ask(operation, payload))?.payload.error.code, "UNAUTHORIZED");
    assert.equal(stranger.code(), 1008);

    const nobody = await connect(guarded, "", { "X-API-Key": "nobody" });
    const answer = await nobody.ask(operation, payload);
    if (!["ping", "unsubscribe"].includes(operation.id)) assert.equal(answer?.payload.error.code, "FORBIDDEN");
    nobody.close();
  }
  for (const { operation, payload } of proofs) {
    const guesser = await connect(guarded);
    const [field] = ["api_key", "token"].filter((name) => name in payload);
    const answer = await guesser.ask(operation, { ...payload, [field]: "guess" });
    assert.match(answer?.payload.error.code, /^INVALID_(API_KEY|TOKEN)$/);
  }
});

test("a right that ends is told", async () => {
  const subscribe = requests.find(({ operation }) => operation.id === "subscribe");
  const connection = await connect(guarded, "", { "X-API-Key": "reader" });
  await connection.ask(subscribe.operation, subscribe.payload);
  const path = "/events?topic=orders&topic=orders.eu";
  const streams = [
    await listen(guarded, "topicStream", "/topics/orders/events", { "X-API-Key": "reader" }),
    await listen(guarded, "stream", path, { "X-API-Key": "reader" }),
  ];
  for (const stream of streams) await stream.next("ack");
  writeFileSync(join(place, "keys.toml"), keyTable("nobody", ""));
  guarded.signal("SIGHUP");
  await connection.notice("error");
  for (const stream of streams) await stream.next("error");
});

test("topics come and go", async () => {
  const broker = await serve({ PING_PERIOD_SEC: "1" });
  await create(broker);
  const pattern = requests.find(({ payload }) => payload.type === "subscribe" && payload.topic === "orders.*");
  const connection = await connect(broker);
  await connection.ask(pattern.operation, pattern.payload);
  await call(broker, "POST", "/topics", { name: "orders.us" });
  await connection.notice("topicCreated");
  await call(broker, "POST", "/topics/orders.us/messages", { payload: { order: 17 } });
  await connection.notice("event");

  const streams = [
    await listen(broker, "topicStream", "/topics/orders.us/events?last=1"),
    await listen(broker, "stream", "/events?topic=orders.us&topic=orders"),
  ];
  for (const stream of streams) await stream.next("ack");
  await streams[0].next("event");
  await call(broker, "POST", "/topics/orders/messages", { payload: "two\nlines" });
  await streams[1].next("event");
  await call(broker, "DELETE", "/topics/orders.us");
  await connection.notice("topicDeleted");
  for (const stream of streams) await stream.next("topic_deleted");
  await connection.notice("heartbeat");
  connection.close();
  streams[1].close();
});

test("what a policy has replaced is counted, and one that is none is refused", async () => {
  const broker = await serve();
  await create(broker);
  const { operation, payload } = requests.find(({ payload }) => payload.max_rate && payload.topic === "orders");
  const connection = await connect(broker);
  for (const other of [{ policy: "newest" }, { max_rate: 0 }, { max_rate: 1001 }]) {
    const answer = await connection.ask(operation, { ...payload, ...other });
    assert.equal(answer?.payload.error.code, "BAD_REQUEST");
  }
  await connection.ask(operation, payload);
  const stream = await listen(broker, "topicStream", "/topics/orders/events?policy=latest&max_rate=10");
  await stream.next("ack");
  await call(broker, "POST", "/topics/orders/messages", [{ payload: 1 }, { payload: 2 }, { payload: 3 }]);
  for (const next of [() => connection.notice("event"), () => stream.next("event")]) {
    let [seq, skipped] = [0, 0];
    while (seq < 3) {
      const event = await next();
      seq = event.seq;
      skipped += event.skipped;
    }
    assert.equal(skipped, 2);
  }
  connection.close();
  stream.close();
});

test("who asks too much, or reads too little, is told", async () => {
  const hasty = await serve({ RATE_MESSAGES_PER_SEC: "1" });
  for (const { operation, payload } of examples) {
    const connection = await connect(hasty);
    // One a second is allowed: on a machine that stalls for so long the second is not too soon, but another will be.
    let id;
    for (let tries = 0; id !== "tooSoon" && tries < 20; tries += 1) id = (await connection.ask(operation, payload))?.id;
    assert.equal(id, "tooSoon");
    connection.close();
  }

  const slow = await serve({ SUBSCRIBER_QUEUE_SIZE: "1", PUBLISH_BODY_MAX: "64MiB" });
  await create(slow);
  const subscribe = requests.find(({ operation }) => operation.id === "subscribe");
  const connection = await connect(slow);
  await connection.ask(subscribe.operation, subscribe.payload);
  const streams = [
    await listen(slow, "topicStream", "/topics/orders/events"),
    await listen(slow, "stream", "/events?topic=orders&topic=orders.eu"),
  ];
  connection.pause();
  // More than the kernel takes for a socket that nobody reads.
  const many = Array.from({ length: 400 }, () => ({ payload: "x".repeat(60_000) }));
  await call(slow, "POST", "/topics/orders/messages", many);
  connection.resume();
  // The notice stands in front of the next event that comes.
  await call(slow, "POST", "/topics/orders/messages", { payload: "the last" });
  await connection.notice("lost");
  for (const stream of streams) await stream.next("slow_consumer");
  connection.close();
  streams.forEach((stream) => stream.close());
});

test("the end is told, and what is asked then is refused", async () => {
  const broker = await serve({ DRAIN_GRACE_MS: "9000" });
  await create(broker);
  const connections = await Promise.all(requests.map(() => connect(broker)));
  const streams = [
    await listen(broker, "topicStream", "/topics/orders/events"),
    await listen(broker, "stream", "/events?topic=orders&topic=orders.eu"),
  ];
  for (const stream of streams) await stream.next("ack");
  broker.signal("SIGTERM");
  await Promise.all(requests.map(async ({ operation, payload }, index) => {
    await connections[index].notice("shuttingDown");
    assert.equal((await connections[index].ask(operation, payload))?.payload.error.code, "UNAVAILABLE");
  }));
  for (const stream of streams) await stream.next("shutting_down");
});

test("everything that the document says of the broker has been heard", () => assert.deepEqual(unheard(), []));
