"""Read the streams of orders with FastStream, judge each entry, and put batches into the inbox.

FastStream reads and dispatches. Everything else that it could do to an entry (decode, validate,
acknowledge) is switched off, because one bad entry would make its whole batch fail.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from faststream import AckPolicy
from faststream.redis import StreamSub
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from faststream.redis.subscriber.usecases import StreamBatchSubscriber
from redis.asyncio import Redis

from consumers.applier import Inbox
from consumers.broker import make_broker
from consumers.reader import Reader
from consumers.tasks import end, together
from service.config import Config
from service.core.envelope import Entry
from service.core.judge import judge
from service.core.order_event import Judged
from service.core.partitions import OrdersStream
from service.streams import groups, redis_client

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_RESTARTS = 5
"""The process ends when restarting a subscriber has failed this often in a row."""


class SubscriberDiedError(Exception):
    """The subscriber stopped and could not be started again; the process must end."""


class OrdersConsumer:
    """The subscribers, one for each stream of orders, and the task that watches them."""

    def __init__(self, config: Config, redis: Redis, consumer: str, inbox: Inbox) -> None:
        """Create the subscribers. Nothing is read until `start` is called."""
        self._config = config
        self._redis = redis
        self._consumer = consumer
        self._inbox = inbox
        self._reader = Reader(config, consumer, inbox.room)
        self._redis_records_readers = True
        self._broker = make_broker(config, self._reader)
        self._names = {stream.partition: stream.name for stream in config.orders_streams}
        self._subscribers = {
            stream.name: self._subscriber(stream) for stream in config.orders_streams
        }

    def _subscriber(self, stream: OrdersStream) -> StreamBatchSubscriber:
        decorator: Any = self._broker.subscriber(
            stream=StreamSub(
                stream.name,
                group=self._config.orders_group,
                consumer=self._consumer,
                batch=True,
                polling_interval=1000,
            ),
            parser=_parse,
            decoder=_decode,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        decorator(self._receive)
        subscriber: StreamBatchSubscriber = decorator
        return subscriber

    async def start(self) -> None:
        """Start reading each stream at the first entry that the group has not seen.

        May be called again after an error.
        """
        for name in self._subscribers:
            await groups.ensure_group(self._redis, name, self._config.orders_group)
        self._redis_records_readers = await redis_client.records_idle_readers(self._redis)
        try:
            await self._broker.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop reading. When this returns, everything that was read is in the inbox."""
        await asyncio.gather(*(_stop_reading(each) for each in self._subscribers.values()))
        await self._broker.stop()
        for name in self._subscribers:
            self._reader.drop(name)

    async def watch(self) -> None:
        """Restart each subscriber that has stopped.

        FastStream stops a subscriber when its group is gone
        (https://github.com/ag2ai/faststream/pull/2855): after FLUSHALL, on a new and empty server,
        or when its stream moves to another master. Raises SubscriberDiedError if one does not come
        back.
        """
        await together(*(self._watch(name) for name in self._subscribers))

    async def _watch(self, stream: str) -> None:
        subscriber, failures = self._subscribers[stream], 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if _is_alive(subscriber):
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
        """Make this worker visible in a Redis that records only readers that received entries.

        Otherwise a worker that waits for orders looks like a worker that is gone.
        """
        if self._redis_records_readers:
            return
        with contextlib.suppress(*redis_client.REDIS_ERRORS):
            await groups.show_presence(
                self._redis, stream, self._config.orders_group, self._consumer
            )

    async def _receive(self, entries: Sequence[Entry]) -> None:
        batch = judge_all(entries, self._config)
        weight = self._reader.hand_over(self._names[entries[0].partition])
        await self._inbox.put(batch, weight)


def judge_all(entries: Sequence[Entry], config: Config) -> list[Judged]:
    """Judge each entry by the contract, independently of the others."""
    terms, now = config.terms, datetime.now(UTC)
    return [Judged(entry, judge(entry, terms, now)) for entry in entries]


async def _stop_reading(subscriber: StreamBatchSubscriber) -> None:
    """Stop a subscriber and wait until its reading task has ended.

    FastStream cancels that task once, without waiting. A task that missed the cancellation would
    go on to take entries that nobody applies.
    """
    reading = list(subscriber.tasks)
    await subscriber.stop()
    await end(reading)


def _is_alive(subscriber: StreamBatchSubscriber) -> bool:
    return subscriber.running and any(not task.done() for task in subscriber.tasks)


async def _parse(raw: BatchStreamMessage) -> RedisBatchStreamMessage:
    return RedisBatchStreamMessage(raw_message=raw, body=b"", consumer=FAKE_CONSUMER, group=None)


async def _decode(message: RedisBatchStreamMessage) -> Any:
    (page,) = message.raw_message["data"]  # see `consumers.broker`
    return page
