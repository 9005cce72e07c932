"""Publishes the numbers up to COUNT to orders, each once it knows of the one before: publish.py URL COUNT."""

import asyncio
import sys

import shardcast


async def main(url: str, count: int) -> None:
    async with shardcast.connect(url) as client:
        for number in range(1, count + 1):
            await client.publish("orders", {"number": number})
            print(number, flush=True)
            await asyncio.sleep(0.01)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
