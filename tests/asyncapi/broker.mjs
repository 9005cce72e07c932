// The broker that runs, a WebSocket to it, and an event stream.
import { spawn } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { createInterface } from "node:readline";
import { after } from "node:test";
import WebSocket from "ws";
import { BINARY } from "../stage/machine.mjs";
import { channels, heard, notices, operations } from "./document.mjs";

const PATIENCE_MS = 10_000;
/** Behind a command: what comes before its answer is the answer of that command. */
const SENTINEL = { type: "ping", request_id: "sentinel" };
const ping = operations.find(({ id }) => id === "ping");

const running = new Set();
after(() => running.forEach((broker) => broker.kill("SIGKILL")));

/** What `promise` becomes, or a failure that says what did not come. */
async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no ${what} within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Starts a broker that ends with the tests. */
export async function serve(env = {}) {
  const broker = spawn(BINARY, [], { env: { HOST: "127.0.0.1", PORT: "0", SHARDS: "2", LOG_LEVEL: "info", ...env } });
  running.add(broker);
  broker.on("exit", () => running.delete(broker));
  let log = "";
  for await (const line of createInterface({ input: broker.stderr })) {
    log += `${line}\n`;
    const address = /listening addr=(127\.0\.0\.1:\d+)/.exec(line);
    if (address) {
      broker.stderr.resume();
      return { address: address[1], signal: (name) => broker.kill(name) };
    }
  }
  throw new Error(`the broker does not start:\n${log}`);
}

/** A call over HTTP. It fails unless the answer is a good one. */
export async function call({ address }, method, path, body, headers = {}) {
  const answer = await fetch(`http://${address}${path}`, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

/** A connection. Everything that comes on it must be in the document. */
export async function connect({ address }, query = "", headers = {}) {
  const socket = new WebSocket(`ws://${address}/ws${query}`, { headers });
  const frames = [];
  let wake = () => {};
  let code;
  socket.on("message", (text) => (frames.push(JSON.parse(text)), wake()));
  socket.on("close", (why) => ((code = why), wake()));
  await within(once(socket, "open"), "upgrade");

  /** The next message of the broker; undefined at the end. */
  async function next() {
    while (frames.length === 0 && code === undefined) {
      await within(new Promise((resolve) => (wake = resolve)), "message");
    }
    return frames.shift();
  }
  return {
    /** The close code, once there is one. */
    code: () => code,
    pause: () => socket.pause(),
    resume: () => socket.resume(),
    close: () => socket.terminate(),
    send: (command) => socket.send(JSON.stringify(command)),
    /** Waits for a notice of this kind. */
    async notice(id) {
      for (let payload; (payload = await next()); ) {
        if (heard("websocket", notices, payload) === id) return payload;
      }
      throw new Error(`the connection has ended with ${code} before ${id}`);
    },
    /** Sends a command of `operation`, and returns the kinds of its answers, of which there is one at most. */
    async ask(operation, command) {
      this.send(command);
      this.send(SENTINEL);
      const answers = [];
      for (let payload; (payload = await next()); ) {
        if (payload.request_id === SENTINEL.request_id) {
          heard("websocket", ping.answers, payload);
          break;
        }
        const isNotice = ["event", "info"].includes(payload.type) || payload.error?.code === "SLOW_CONSUMER";
        const id = heard("websocket", isNotice ? notices : operation.answers, payload);
        if (!isNotice) answers.push({ id, payload });
      }
      if (answers.length > 1) {
        throw new Error(`${JSON.stringify(command)} has ${answers.length} answers: ${JSON.stringify(answers)}`);
      }
      return answers[0];
    },
  };
}

/** An event stream: `next(id)` waits for a message of this kind. Until the first `next` nothing is read. */
export async function listen({ address }, channel, path, headers = {}) {
  const request = http.get(`http://${address}${path}`, { headers });
  const [response] = await within(once(request, "response"), "event stream");
  if (response.statusCode !== 200) throw new Error(`${path}: ${response.statusCode}`);
  response.setEncoding("utf8");
  const blocks = read(response);
  return {
    async next(id) {
      for (;;) {
        const { value, done } = await within(blocks.next(), id);
        if (done) throw new Error(`the stream ${path} has ended before ${id}`);
        const { data, ...fields } = value;
        const payload = JSON.parse(data);
        const event = fields.event ?? "event";
        const allowed = channels[channel].filter((message) => message.id === event);
        heard(channel, allowed, payload, fields);
        if (event === id) return payload;
      }
    },
    close: () => request.destroy(),
  };
}

async function* read(response) {
  let text = "";
  for await (const chunk of response) {
    text += chunk;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const block = {};
      for (const line of text.slice(0, end).split("\n")) {
        const [, name, value] = /^([a-z]*): ?(.*)$/.exec(line);
        if (name) block[name] = name in block ? `${block[name]}\n${value}` : value;
      }
      if (block.data !== undefined) yield block;
    }
  }
}
