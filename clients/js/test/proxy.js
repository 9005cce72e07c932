// A TCP proxy that does to connections what networks do.
import { connect, createServer } from "node:net";

/** Stands before `port`. Ends with the test `t`. Requests may be refused, or ignored, by what is in them. */
export async function stand(t, port, { refuses, ignores } = {}) {
  const pairs = new Set();
  let swallows = false;
  let delayMs = 0;
  /** Bytes of the broker that still get through before the cut; then none. */
  let left = Infinity;

  const server = createServer((client) => {
    const broker = connect(port, "127.0.0.1");
    const pair = { client, broker };
    pairs.add(pair);
    const end = () => {
      client.destroy();
      broker.destroy();
      pairs.delete(pair);
    };
    const pass = (from, to, counts) => {
      from.on("data", (data) => {
        if (swallows || (!counts && ignores?.test(data))) return;
        if (!counts && refuses?.test(data))
          return from.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
        if (counts && data.length >= left) {
          to.write(data.subarray(0, left), end);
          left = Infinity;
          return;
        }
        if (counts) left -= data.length;
        if (delayMs) setTimeout(() => to.writable && to.write(data), delayMs);
        else to.write(data);
      });
      from.on("error", end).on("close", () => {
        // What is swallowed is not heard to end either.
        if (!swallows) end();
      });
    };
    pass(client, broker, false);
    pass(broker, client, true);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const { client, broker } of pairs) {
      client.destroy();
      broker.destroy();
    }
    pairs.clear();
  };
  t.after(() => {
    cut();
    server.close();
  });
  return {
    url: `ws://127.0.0.1:${server.address().port}/ws`,
    cut,
    /** Lets so many more bytes of the broker through, and cuts there. */
    cutAfter: (bytes) => (left = bytes),
    /** Stops reading from the broker, as a client does that has no time. */
    stall: (on) => pairs.forEach(({ broker }) => (on ? broker.pause() : broker.resume())),
    /** Lets nothing through, in either direction, and says nothing of it. */
    swallow: (on) => (swallows = on),
    delay: (ms) => (delayMs = ms),
  };
}
