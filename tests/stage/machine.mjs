// What tests in JavaScript find on the machine: the server that is built, a browser, a free port.
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const built = (profile) => fileURLToPath(new URL(`../../target/${profile}/shardcast`, import.meta.url));

/** The server: SHARDCAST_BIN, or one that cargo has built. */
export const BINARY = process.env.SHARDCAST_BIN ?? [built("release"), built("debug")].find(existsSync);
if (!BINARY) throw new Error("no server to test with: cargo build, or SHARDCAST_BIN=…");

/** How a browser is launched: CHROMIUM, or that of the system. */
export const BROWSER = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  headless: true,
  timeout: 60_000,
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
};

/** A port that is free now, for a server that must come back to the same one. */
export const freePort = () =>
  new Promise((resolve, reject) => {
    const probe = createServer().on("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });
