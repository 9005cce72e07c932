"""Client of shardcast, a publish/subscribe broker over WebSockets.

async with shardcast.connect("ws://localhost:8080/ws") as client:
    await client.publish("orders", {"id": 17})
    async for event in client.subscribe("orders", last=10):
        print(event.seq, event.payload)
"""

from shardcast.client import Client, ClientState, connect
from shardcast.errors import ShardcastError
from shardcast.events import Event, Gap, Position, Receipt
from shardcast.settings import Settings
from shardcast.subscription import Subscription, SubscriptionState

__all__ = [
    "Client",
    "ClientState",
    "Event",
    "Gap",
    "Position",
    "Receipt",
    "Settings",
    "ShardcastError",
    "Subscription",
    "SubscriptionState",
    "connect",
]
