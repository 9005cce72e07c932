import { createHmac } from "node:crypto";

export const SECRET = "a secret of at least 32 bytes, for tests";

const part = (value) => Buffer.from(value).toString("base64url");

/** A token that ends in so many seconds. */
export function token(seconds, claims = {}) {
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const body = { sub: "tester", exp, subscribe: [">"], publish: [">"], manage: [">"], ...claims };
  const signed = `${part('{"alg":"HS256","typ":"JWT"}')}.${part(JSON.stringify(body))}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
