"""A market, imagined: publishes hundreds of prices a second, each of its goods to a topic of its own."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random

import shardcast

GOODS = ("amber", "barley", "cocoa", "copper", "cotton", "gold", "jute", "oats", "pepper", "silk", "tin", "wool")


async def publish(url: str, key: str | None, per_second: float, count: int | None) -> None:
    prices = {name: random.uniform(10, 500) for name in GOODS}
    number = 0
    settings = shardcast.Settings(open_timeout_s=None)
    async with shardcast.connect(url, key=key, client_id="market", settings=settings) as client:

        async def tell(name: str) -> None:
            prices[name] *= random.gauss(1, 0.002)
            await client.publish(f"prices.{name}", {"price": round(prices[name], 2)})

        clock = asyncio.get_running_loop()
        started = clock.time()
        while count is None or number < count:
            # As many as are due: a market does not wait for the broker's answer to one price before the next.
            due = int((clock.time() - started) * per_second) + 1 - number
            due = due if count is None else min(due, count - number)
            await asyncio.gather(*(tell(random.choice(GOODS)) for _ in range(due)))
            number += due
            await asyncio.sleep(1 / per_second)
    print(f"published {number} prices", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes the prices of an imaginary market.")
    parser.add_argument("--url", default="ws://localhost:8080/ws")
    parser.add_argument("--per-second", type=float, default=300.0, help="prices a second, of all goods together")
    parser.add_argument("--count", type=int, help="stop after so many; without it, never")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        # A flag would show in the process list.
        key = os.environ.get("SHARDCAST_API_KEY")
        asyncio.run(publish(options.url, key, options.per_second, options.count))


if __name__ == "__main__":
    main()
