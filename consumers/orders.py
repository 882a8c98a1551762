"""Read the streams of orders with FastStream, judge each entry, and hand batches on.

FastStream reads and dispatches; everything it would do to an entry (decoding, validating, acking)
is switched off, because one bad entry would take its whole batch down with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from faststream import AckPolicy
from faststream.redis import StreamSub
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from faststream.redis.subscriber.usecases import StreamBatchSubscriber
from redis.asyncio import Redis

from consumers.broker import make_broker
from consumers.inbox import Inbox
from consumers.tasks import end
from service.config import Config
from service.core.envelope import Entry
from service.core.order_event import Judged, judge
from service.core.partitions import OrdersStream
from service.streams import groups, redis_client

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_RESTARTS = 5
"""Failed restarts of the subscriber in a row, after which the process gives up."""


class SubscriberDiedError(Exception):
    """The subscriber stopped and could not be started again; the process must end."""


class OrdersConsumer:
    """The subscribers, one to each stream of orders, and the watch over them."""

    def __init__(self, config: Config, redis: Redis, consumer: str, inbox: Inbox) -> None:
        """Declare the subscribers; nothing is read before `start`."""
        self._config = config
        self._redis = redis
        self._consumer = consumer
        self._inbox = inbox
        self._noted = True
        self._broker = make_broker(config)
        self._subscribers = {
            stream.name: self._subscriber(stream) for stream in config.orders_streams
        }

    def _subscriber(self, stream: OrdersStream) -> StreamBatchSubscriber:
        subscriber: Any = self._broker.subscriber(
            stream=StreamSub(
                stream.name,
                group=self._config.orders_group,
                consumer=self._consumer,
                batch=True,
                max_records=self._config.batch_size,
                polling_interval=1000,
            ),
            parser=_parse,
            decoder=partial(_decode, stream.partition),
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        subscriber(self._receive)
        found: StreamBatchSubscriber = subscriber
        return found

    async def start(self) -> None:
        """Begin to read, from the first entry of each stream that the group has not seen."""
        for name in self._subscribers:
            await groups.ensure_group(self._redis, name, self._config.orders_group)
        self._noted = await redis_client.notes_every_reader(self._redis)
        await self._broker.start()

    async def stop(self) -> None:
        """Read no more; what was read before is in the inbox when this returns."""
        await asyncio.gather(*(_stop_reading(it) for it in self._subscribers.values()))
        await self._broker.stop()

    async def watch(self) -> None:
        """Start each subscriber again whenever it has stopped by itself.

        It does so when its group is gone (after FLUSHALL, on a new, empty server, when its stream
        moves to another master). Raises SubscriberDiedError when one does not come back.
        """
        async with asyncio.TaskGroup() as group:
            for name in self._subscribers:
                group.create_task(self._watch(name))

    async def _watch(self, stream: str) -> None:
        subscriber, failures = self._subscribers[stream], 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if _alive(subscriber):
                failures = 0
                await self._show_presence(stream)
                continue
            log.error("the subscriber to %s has stopped; restarting it", stream)
            try:
                await _stop_reading(subscriber)
                await groups.ensure_group(self._redis, stream, self._config.orders_group)
                await subscriber.start()
            except redis_client.REDIS_ERRORS as error:
                failures += not redis_client.is_away(error)
                if failures >= _RESTARTS:
                    msg = f"the subscriber to {stream} did not come back after {failures} attempts"
                    log.critical(msg)
                    raise SubscriberDiedError(msg) from error
                await asyncio.sleep(_WATCH_SECONDS * 2**failures)

    async def _show_presence(self, stream: str) -> None:
        """Let an older Redis, too, tell a worker that waits for orders from one that is gone."""
        if self._noted:
            return
        with contextlib.suppress(*redis_client.REDIS_ERRORS):
            await groups.show_presence(
                self._redis, stream, self._config.orders_group, self._consumer
            )

    def reading(self) -> set[str]:
        """Tell of which streams entries are asked for."""
        return {name for name, subscriber in self._subscribers.items() if _alive(subscriber)}

    async def _receive(self, entries: Sequence[Entry]) -> None:
        await self._inbox.put(judge_all(entries, self._config))


def judge_all(entries: Sequence[Entry], config: Config) -> list[Judged]:
    """Hold each entry against the contract, by itself."""
    now = datetime.now(UTC)
    return [
        Judged(
            entry,
            judge(
                entry,
                store_currency=config.store_currency,
                max_bytes=config.max_event_bytes,
                now=now,
            ),
        )
        for entry in entries
    ]


async def _stop_reading(subscriber: StreamBatchSubscriber) -> None:
    """Stop a subscriber, and see its reader end.

    FastStream cancels the reader once, without waiting. A reader that missed it would go on to
    take entries that nobody applies.
    """
    reading = list(subscriber.tasks)
    await subscriber.stop()
    await end(reading)


def _alive(subscriber: StreamBatchSubscriber) -> bool:
    """Tell whether it asks for entries."""
    return subscriber.running and any(not task.done() for task in subscriber.tasks)


async def _parse(raw: BatchStreamMessage) -> RedisBatchStreamMessage:
    return RedisBatchStreamMessage(raw_message=raw, body=b"", consumer=FAKE_CONSUMER, group=None)


async def _decode(partition: int | None, message: RedisBatchStreamMessage) -> Any:
    raw = message.raw_message
    return [
        Entry(message_id.decode(), fields, partition)
        for message_id, fields in zip(raw["message_ids"], raw["data"], strict=True)
    ]
