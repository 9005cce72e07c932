// The document itself, and what the source and the shared vectors know that it must have.
import assert from "node:assert/strict";
import { test } from "node:test";
import { channels, faults, fieldsRead, kind, names, notices, operations, schemas, source, version } from "./document.mjs";

const sorted = (list) => [...new Set(list)].sort();
const commands = operations.flatMap((operation) => operation.commands);
const answers = [...new Map([...operations.flatMap(({ answers }) => answers), ...notices].map((a) => [a.id, a])).values()];

/** The variants of an enum, as messages are called. */
function variants(path, name) {
  const body = new RegExp(`pub enum ${name}<'a> \\{\\n(.*?)\\n\\}`, "s").exec(source(path))[1];
  return [...body.matchAll(/^ {4}([A-Z]\w*)/gm)].map(([, variant]) => variant[0].toLowerCase() + variant.slice(1));
}

test("the parser has nothing against it", () => assert.deepEqual(faults, []));

test("it is of the version that it ships with", () => {
  assert.equal(version, /^version = "(.*)"$/m.exec(source("Cargo.toml"))[1]);
});

test("every example is what its message says, and nothing else", () => {
  for (const [channel, messages] of Object.entries(channels)) {
    for (const message of messages) {
      assert.notEqual(message.examples.length, 0, `${channel}.${message.id} has no example`);
      for (const { payload, headers } of message.examples) {
        assert.equal(message.fault(payload, headers), undefined, `${channel}.${message.id}: ${JSON.stringify(payload)}`);
      }
    }
  }
});

test("it has every command and every answer that the broker knows", () => {
  assert.deepEqual(sorted(commands.map(({ id }) => id)), sorted(variants("src/protocol/command.rs", "Command")));
  // An event is no answer: it is written where it is published.
  assert.deepEqual(sorted(answers.map(({ id }) => id)), sorted([...variants("src/protocol/answer.rs", "Answer"), "event"]));
  const described = channels.websocket.map(({ id }) => id);
  assert.deepEqual(sorted(described), sorted([...commands, ...answers].map(({ id }) => id)));
});

test("it has every field of a command that the broker reads", () => {
  const described = new Set();
  const collect = (schema) => {
    if (schema === null || typeof schema !== "object") return;
    Object.keys(schema.properties ?? {}).forEach((name) => described.add(name));
    Object.values(schema).forEach(collect);
  };
  operations.forEach(({ commands }) => commands.forEach(({ schema }) => collect(schema)));
  assert.deepEqual(sorted(described), sorted(fieldsRead));
});

test("it has every error code that comes on a WebSocket", () => {
  const table = [...source("docs/protocol.md").matchAll(/^\| `([A-Z_]+)` \| (both|WebSocket|HTTP) \|/gm)];
  const known = [...source("src/protocol/codes.rs").matchAll(/^ {4}[A-Z]\w+ = "([A-Z_]+)",$/gm)].map(([, code]) => code);
  assert.deepEqual(sorted(table.map(([, code]) => code)), sorted(known));
  const spoken = table.filter(([, , where]) => where !== "HTTP").map(([, code]) => code);
  assert.deepEqual(sorted([...schemas.errorCode.enum, "SLOW_CONSUMER"]), sorted(spoken));
});

test("it takes the commands and answers of the vectors that clients are held to", () => {
  const { commands: calls } = JSON.parse(source("tests/contract/frames.json"));
  calls.forEach(({ frame }) => kind(commands, JSON.parse(frame)));
  const { sessions } = JSON.parse(source("tests/contract/sessions.json"));
  // One of them has what no broker says yet, which clients are to pass over.
  const today = sessions.filter(({ name }) => name !== "what is not known is ignored");
  assert.equal(today.length, sessions.length - 1);
  for (const step of today.flatMap(({ steps }) => steps)) {
    if (step.client) kind(commands, JSON.parse(step.client));
    if (step.server) kind(answers, JSON.parse(step.server));
  }
});

test("it takes the patterns and names that the broker takes", () => {
  const [isTopic, isPattern] = [names("topicName"), names("pattern")];
  const { vectors, invalid } = JSON.parse(source("tests/contract/patterns.json"));
  for (const { pattern, name } of vectors) {
    assert.ok(isPattern(pattern) || isTopic(pattern), pattern);
    assert.ok(isTopic(name), name);
  }
  for (const name of invalid) assert.ok(!isPattern(name) && !isTopic(name), name);
});
