"""An auditor: writes down every price of one topic, and every gap, one JSON object on each line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os

import shardcast


def gap(gap: shardcast.Gap) -> None:
    print(json.dumps({"gap": [gap.first, gap.last], "reason": gap.reason}), flush=True)


async def follow(url: str, key: str | None, topic: str, count: int | None) -> None:
    async with shardcast.connect(url, key=key, client_id="audit") as client:
        # No policy: every event, in order, and whatever is missing is told.
        async with client.subscribe(topic, last=1000, on_gap=gap) as prices:
            async for event in prices:
                print(json.dumps({"seq": event.seq, "at": event.ts, **event.payload}), flush=True)
                if count is not None and event.seq >= count:
                    return


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes down every price of a topic.")
    parser.add_argument("topic", nargs="?", default="prices.gold")
    parser.add_argument("--url", default="ws://localhost:8080/ws")
    parser.add_argument("--count", type=int, help="stop at this seq; without it, never")
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(follow(options.url, os.environ.get("SHARDCAST_API_KEY"), options.topic, options.count))


if __name__ == "__main__":
    main()
