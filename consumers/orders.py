"""Read the stream ``orders`` with FastStream, judge each entry, and hand batches on.

FastStream reads and dispatches; everything it would do to an entry (decoding, validating, acking)
is switched off, because one bad entry would take its whole batch down with it.
"""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from faststream import AckPolicy
from faststream.redis import RedisBroker, StreamSub
from faststream.redis.message import FAKE_CONSUMER, BatchStreamMessage, RedisBatchStreamMessage
from redis.asyncio import Redis

from consumers.inbox import Inbox
from consumers.tasks import end
from service import streams
from service.config import Config
from service.connections import connection_class
from service.contract import judge
from service.db.ingest import Judged
from service.envelope import Entry

log = logging.getLogger(__name__)

_WATCH_SECONDS = 0.5
_RESTARTS = 5
"""Failed restarts of the subscriber in a row, after which the process gives up."""


class SubscriberDiedError(Exception):
    """The subscriber stopped and could not be started again; the process must end."""


class OrdersConsumer:
    """The subscriber to the orders stream and the watch over it."""

    def __init__(self, config: Config, redis: Redis, consumer: str, inbox: Inbox) -> None:
        """Declare the subscriber; nothing is read before `start`."""
        self._config = config
        self._redis = redis
        self._consumer = consumer
        self._inbox = inbox
        self._noted = True
        self._broker = RedisBroker(
            config.redis_url or "",
            apply_types=False,
            graceful_timeout=config.drain_seconds,
            logger=logging.getLogger("faststream"),
            log_level=logging.DEBUG,
            connection_class=connection_class(config.redis_url or ""),
            **streams.connection_options(),
        )
        self._subscriber = self._broker.subscriber(
            stream=StreamSub(
                config.orders_stream,
                group=config.orders_group,
                consumer=consumer,
                batch=True,
                max_records=config.batch_size,
                polling_interval=1000,
            ),
            parser=_parse,
            decoder=_decode,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        self._subscriber(self._receive)

    async def start(self) -> None:
        """Begin to read, from the first entry that the group has not seen."""
        await streams.ensure_group(
            self._redis, self._config.orders_stream, self._config.orders_group
        )
        self._noted = await streams.notes_every_reader(self._redis)
        await self._broker.start()

    async def stop(self) -> None:
        """Read no more; what was read before is in the inbox when this returns."""
        await self._stop_reading()
        await self._broker.stop()

    async def _stop_reading(self) -> None:
        """Stop the subscriber, and see its reader end.

        FastStream cancels the reader once, without waiting. A reader that missed it would go on
        to take entries that nobody applies.
        """
        reading = list(self._subscriber.tasks)
        await self._subscriber.stop()
        await end(reading)

    async def watch(self) -> None:
        """Start the subscriber again whenever it has stopped by itself.

        It does so when its group is gone (after FLUSHALL, or on a new, empty server). Raises
        SubscriberDiedError when it does not come back.
        """
        failures = 0
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if self.alive():
                failures = 0
                await self._show_presence()
                continue
            log.error("the subscriber has stopped; creating its group again and restarting it")
            try:
                await self._stop_reading()
                await streams.ensure_group(
                    self._redis, self._config.orders_stream, self._config.orders_group
                )
                await self._subscriber.start()
            except streams.REDIS_ERRORS as error:
                failures += 1
                if failures >= _RESTARTS:
                    msg = f"the subscriber did not come back after {failures} attempts"
                    log.critical(msg)
                    raise SubscriberDiedError(msg) from error
                await asyncio.sleep(_WATCH_SECONDS * 2**failures)

    async def _show_presence(self) -> None:
        """Let an older Redis, too, tell a worker that waits for orders from one that is gone."""
        if self._noted:
            return
        with contextlib.suppress(*streams.REDIS_ERRORS):
            await streams.show_presence(
                self._redis, self._config.orders_stream, self._config.orders_group, self._consumer
            )

    def alive(self) -> bool:
        """Tell whether it asks for entries."""
        tasks = self._subscriber.tasks
        return self._subscriber.running and any(not task.done() for task in tasks)

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


async def _parse(raw: BatchStreamMessage) -> RedisBatchStreamMessage:
    return RedisBatchStreamMessage(raw_message=raw, body=b"", consumer=FAKE_CONSUMER, group=None)


async def _decode(message: RedisBatchStreamMessage) -> Any:
    raw = message.raw_message
    return [
        Entry(message_id.decode(), fields)
        for message_id, fields in zip(raw["message_ids"], raw["data"], strict=True)
    ]
