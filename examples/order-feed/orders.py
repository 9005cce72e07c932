"""A shop, imagined: publishes each change of an order to the topic `orders`.

It keeps publishing through restarts of the broker and of the network; what it says of a message is what the broker
has said.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
from collections.abc import Iterator
from typing import TypedDict

import shardcast

TOPIC = "orders"
STATES = ("placed", "paid", "packed", "shipped")
GOODS = ("lamp", "chair", "kettle", "bookcase", "clock")
OPEN_MAX = 20


class Order(TypedDict):
    order: int
    goods: str
    euros: int
    state: str


def changes(dice: random.Random) -> Iterator[Order]:
    """Orders as they move on, a few at a time, for ever."""
    under_way: list[Order] = []
    number = 0
    while True:
        if (len(under_way) < OPEN_MAX and dice.random() < 0.4) or not under_way:
            number += 1
            order = Order(order=number, goods=dice.choice(GOODS), euros=dice.randrange(5, 500), state=STATES[0])
            under_way.append(order)
        else:
            order = dice.choice(under_way)
            order["state"] = STATES[STATES.index(order["state"]) + 1]
            if order["state"] == STATES[-1]:
                under_way.remove(order)
        yield order


async def publish(url: str, key: str | None, per_second: float, count: int | None) -> None:
    settings = shardcast.Settings(open_timeout_s=None)
    async with shardcast.connect(url, key=key, client_id="shop", settings=settings, on_state=print) as client:
        for number, change in enumerate(changes(random.Random()), 1):
            receipt = await client.publish(TOPIC, change)
            print(f"#{receipt.seq} to {receipt.matched}: {change}", flush=True)
            if number == count:
                return
            await asyncio.sleep(1 / per_second)


def main() -> None:
    parser = argparse.ArgumentParser(description="Publishes the orders of an imaginary shop.")
    parser.add_argument("--url", default="ws://localhost:8080/ws")
    parser.add_argument("--per-second", type=float, default=2.0, help="changes a second")
    parser.add_argument("--count", type=int, help="stop after so many; without it, never")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        # A flag would show in the process list.
        key = os.environ.get("SHARDCAST_API_KEY")
        asyncio.run(publish(options.url, key, options.per_second, options.count))


if __name__ == "__main__":
    main()
