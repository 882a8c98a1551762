"""Endpoints get what is published: signed, in order, nothing missing, whatever they answer."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from standardwebhooks import Webhook

from consumers import endpoint_sending, sender
from consumers.deliveries import Deliveries
from consumers.relay import Relay
from consumers.tasks import end
from service.core.endpoints import EventKind, make_secret
from service.db.customers import editing
from service.db.engine import create_engine
from service.db.locks import AdvisoryLock
from service.db.operations import endpoints
from service.db.operations.endpoints import Endpoint, NewEndpoint, Replayed
from tests.conftest import Service
from tests.integration.worker.scene import change, out_stream
from tests.receiver import HOST, Delivery, Receiver, hang, receiving
from tests.wait import until

_ALL = tuple(EventKind)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the first pauses after a failure short."""
    monkeypatch.setattr(endpoint_sending, "_FIRST_PAUSE", 0.05)


@contextlib.asynccontextmanager
async def delivering(service: Service, workers: int = 1) -> AsyncIterator[Sequence[Deliveries]]:
    """Run a relay, and what sends, until the block ends."""
    engine = create_engine(service.config.database_url or "", application="crm worker")
    parts = [Deliveries(engine) for _ in range(workers)]
    relay = Relay(engine, service.redis, service.config)
    tasks = [asyncio.create_task(part.run()) for part in parts]
    relaying = asyncio.create_task(relay.run())
    try:
        yield parts
        for task in (*tasks, relaying):
            assert not task.done(), task
    finally:
        await end([*tasks, relaying])
        await engine.dispose()


async def register(service: Service, url: str, *, secret: str | None = None, **more: object) -> int:
    """Register an endpoint in this machine's own network."""
    new = NewEndpoint(**{"url": url, "events": _ALL, "allow_private": True, **more})  # type: ignore[arg-type]
    return await service.in_transaction(endpoints.add, new, secret or make_secret(), "test")


async def stored(service: Service, endpoint: int) -> Endpoint:
    return await service.in_transaction(endpoints.endpoint, endpoint)


async def replay(
    service: Service, endpoint: int, since: datetime, *, skip: bool = False
) -> Replayed:
    return await service.in_transaction(endpoints.replay, endpoint, since, "test", skip)


async def arrived(receiver: Receiver, number: int) -> None:
    async def have() -> bool:
        return len(receiver.taken) >= number

    await until(have)


async def noted(service: Service, endpoint: int, delivered: int) -> Endpoint:
    async def is_noted() -> bool:
        return (await stored(service, endpoint)).delivered >= delivered

    await until(is_noted)
    return await stored(service, endpoint)


async def failed(service: Service, endpoint: int, times: int = 1) -> Endpoint:
    async def has_failed() -> bool:
        return (await stored(service, endpoint)).failures >= times

    await until(has_failed)
    return await stored(service, endpoint)


async def test_the_bytes_of_the_stream_arrive_signed(service: Service) -> None:
    secret = make_secret()
    async with receiving() as receiver, delivering(service):
        endpoint = await register(service, receiver.url, secret=secret)
        await change(service, 1, 2)
        await change(service, 1)
        await service.in_transaction(editing.delete, "test", 1002)
        await arrived(receiver, 4)
        state = await noted(service, endpoint, 4)
    streams = await out_stream(service) + await out_stream(service, service.config.removals_stream)
    assert sorted(each.body for each in receiver.taken) == sorted(each.body for each in streams)
    for each in receiver.taken:
        Webhook(secret).verify(each.body, each.headers)
        assert each.id == each.document["id"]
        assert each.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert receiver.sequences() == {"CUST-1001": [1, 2], "CUST-1002": [1]}
    assert receiver.ids[-1] == state.last_event == "CUST-1002:removed"
    assert (state.delivered, state.waiting, state.failures, state.lag_seconds) == (4, 0, 0, 0)


async def test_a_new_endpoint_begins_now_or_in_the_past(service: Service, now: datetime) -> None:
    async with receiving() as past, receiving() as present, delivering(service):
        await change(service, 1)

        async def is_published() -> bool:
            return bool(await out_stream(service))

        await until(is_published)
        await register(service, present.url)
        await register(service, past.url, since=now - timedelta(days=1))
        await change(service, 2)
        await arrived(past, 2)
        await arrived(present, 1)
    assert past.ids == ["CUST-1001:1", "CUST-1002:1"]
    assert present.ids == ["CUST-1002:1"]


async def test_it_gets_only_the_kinds_that_it_wants(service: Service) -> None:
    async with receiving() as changes, receiving() as removals, delivering(service):
        await register(service, changes.url, events=[EventKind.CHANGED])
        await register(service, removals.url, events=[EventKind.REMOVED])
        await change(service, 1)
        await service.in_transaction(editing.delete, "test", 1001)
        await arrived(removals, 1)
        await arrived(changes, 1)
    assert (changes.ids, removals.ids) == (["CUST-1001:1"], ["CUST-1001:removed"])


async def test_an_endpoint_that_hangs_delays_no_other_one(service: Service) -> None:
    async with receiving() as dead, receiving() as alive, delivering(service):
        dead.answer = hang
        await register(service, dead.url)
        await register(service, alive.url)
        await change(service, *range(1, 30))
        await arrived(alive, 29)
        assert dead.taken == []
        assert 1 <= dead.most_at_once <= 8  # bounded, however much there is to send


async def test_failures_are_tried_again_in_order(service: Service) -> None:
    refused: list[str] = []

    async def refuse_some(delivery: Delivery) -> web.Response:
        if delivery.id in {"CUST-1002:1", "CUST-1001:2"} and refused.count(delivery.id) < 2:
            refused.append(delivery.id)
            return web.Response(status=500)
        return web.Response()

    async with receiving() as receiver, delivering(service):
        receiver.answer = refuse_some
        await change(service, 1, 2, 3)
        await change(service, 1, 2, 3)
        endpoint = await register(service, receiver.url, since=_LONG_AGO)
        await arrived(receiver, 6)
        state = await noted(service, endpoint, 6)
    assert receiver.sequences() == {f"CUST-{number}": [1, 2] for number in (1001, 1002, 1003)}
    assert len(receiver.ids) == len(set(receiver.ids))
    assert (state.failures, state.last_error) == (0, None)
    assert state.failed >= 2


async def test_a_replay_sends_the_same_again(service: Service) -> None:
    async with receiving() as receiver, delivering(service):
        endpoint = await register(service, receiver.url)
        await change(service, 1, 2)
        await noted(service, endpoint, 2)
        replayed = await replay(service, endpoint, _LONG_AGO)
        await noted(service, endpoint, 4)
        later = datetime.now(UTC) + timedelta(hours=1)
        nothing = await replay(service, endpoint, later)
    assert receiver.ids == ["CUST-1001:1", "CUST-1002:1"] * 2
    assert receiver.taken[0].body == receiver.taken[2].body
    assert (replayed, nothing) == ((2, 0), (0, 0))


async def test_a_replay_leaves_out_what_is_missing_only_if_asked(service: Service) -> None:
    async with receiving() as receiver, delivering(service):
        endpoint = await register(service, receiver.url)
        await service.in_transaction(endpoints.pause, endpoint, "test", "maintenance")
        await change(service, 1, 2)

        async def are_published() -> bool:
            return (await stored(service, endpoint)).waiting == 2

        await until(are_published)
        later = datetime.now(UTC) + timedelta(hours=1)
        assert await replay(service, endpoint, later) == (0, 0)
        assert await replay(service, endpoint, later, skip=True) == (0, 2)
        await service.in_transaction(endpoints.resume, endpoint, "test")
        await change(service, 3)
        await arrived(receiver, 1)
    assert receiver.ids == ["CUST-1003:1"]


async def test_a_decision_in_the_middle_of_a_page_is_not_undone(service: Service) -> None:
    """What was on its way when somebody moved the cursor back must not move it on again."""
    go_on = asyncio.Event()

    async def wait(_: Delivery) -> web.Response:
        await go_on.wait()
        return web.Response()

    async with receiving() as receiver, delivering(service):
        receiver.answer = wait
        endpoint = await register(service, receiver.url)
        await change(service, 1, 2)

        async def are_on_their_way() -> bool:
            return receiver.at_once == 2

        await until(are_on_their_way)
        await replay(service, endpoint, _LONG_AGO)
        go_on.set()
        await noted(service, endpoint, 2)
    assert len(receiver.attempts) == 4


async def test_a_paused_endpoint_gets_nothing_until_it_is_resumed(service: Service) -> None:
    async with receiving() as receiver, receiving() as other, delivering(service):
        endpoint = await register(service, receiver.url)
        await register(service, other.url)
        assert await service.in_transaction(endpoints.pause, endpoint, "test", "maintenance")
        assert not await service.in_transaction(endpoints.pause, endpoint, "test", "again")
        await change(service, 1)
        await arrived(other, 1)
        state = await stored(service, endpoint)
        assert (state.state, state.paused_because, state.waiting) == ("paused", "maintenance", 1)
        assert receiver.attempts == []
        await service.in_transaction(endpoints.resume, endpoint, "test")
        await arrived(receiver, 1)


async def test_gone_pauses_at_once(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    async def gone(_: Delivery) -> web.Response:
        return web.Response(status=410)

    async with receiving() as receiver, delivering(service):
        receiver.answer = gone
        endpoint = await register(service, receiver.url)
        await change(service, 1)
        state = await paused(service, endpoint)
    assert len(receiver.attempts) == 1
    assert state.paused_because == "answered 410: it wants no more events"
    assert state.paused_by is None
    assert "is paused: it answered 410" in caplog.text
    (row,) = await service.rows("SELECT actor FROM audit WHERE action = 'endpoint.paused'")
    assert row["actor"] == "service"


async def paused(service: Service, endpoint: int) -> Endpoint:
    async def is_paused() -> bool:
        return (await stored(service, endpoint)).state == "paused"

    await until(is_paused)
    return await stored(service, endpoint)


async def test_an_event_that_has_failed_for_three_days_pauses_its_endpoint(
    service: Service,
) -> None:
    async def refuse(_: Delivery) -> web.Response:
        return web.Response(status=500)

    async with receiving() as receiver, delivering(service):
        receiver.answer = refuse
        endpoint = await register(service, receiver.url)
        await change(service, 1)
        state = await failed(service, endpoint, 2)
        assert (state.state, state.last_error) == ("failing", "answered 500")
        await service.execute(
            "UPDATE endpoints SET failing_since = now() - interval '2 days 23 hours'"
        )
        state = await failed(service, endpoint, state.failures + 1)
        assert state.state == "failing"
        await service.execute("UPDATE endpoints SET failing_since = now() - interval '3 days'")
        state = await paused(service, endpoint)
        assert state.paused_because == (
            "one event has failed for 3 days; the last time: answered 500"
        )
        attempts = len(receiver.attempts)
        receiver.answer = accept_all
        await service.in_transaction(endpoints.resume, endpoint, "test")
        await arrived(receiver, 1)
    assert attempts >= 4
    assert receiver.ids == ["CUST-1001:1"]


async def accept_all(_: Delivery) -> web.Response:
    return web.Response(status=202)


@pytest.mark.parametrize("as_date", [False, True], ids=["seconds", "a date"])
async def test_an_endpoint_says_when_to_try_again(service: Service, as_date: bool) -> None:  # noqa: FBT001
    until_then = datetime.now(UTC) + timedelta(seconds=5000)
    text = f"{until_then:%a, %d %b %Y %H:%M:%S GMT}" if as_date else "5000"

    async def busy(_: Delivery) -> web.Response:
        return web.Response(status=503, headers={"Retry-After": text})

    async with receiving() as receiver, delivering(service):
        receiver.answer = busy
        endpoint = await register(service, receiver.url)
        await change(service, 1)
        state = await failed(service, endpoint)
    assert state.next_attempt_at is not None
    assert state.last_attempt_at is not None
    assert 4000 < (state.next_attempt_at - state.last_attempt_at).total_seconds() < 5200


async def test_a_redirect_is_a_failure(service: Service) -> None:
    async with receiving() as target, receiving() as receiver, delivering(service):

        async def redirect(_: Delivery) -> web.Response:
            return web.Response(status=307, headers={"Location": target.url})

        receiver.answer = redirect
        endpoint = await register(service, receiver.url)
        await change(service, 1)
        state = await failed(service, endpoint)
    assert target.attempts == []
    assert state.last_error is not None
    assert state.last_error.startswith("answered 307: redirects are not followed")


async def test_both_secrets_sign_while_one_replaces_the_other(service: Service) -> None:
    former, new = make_secret(), make_secret()
    async with receiving() as receiver, delivering(service):
        endpoint = await register(service, receiver.url, secret=former)
        await service.in_transaction(
            endpoints.renew_secret, endpoint, new, timedelta(hours=1), "test"
        )
        await change(service, 1)
        await noted(service, endpoint, 1)
        await service.execute("UPDATE endpoint_secrets SET expires_at = now() WHERE id = 1")
        await change(service, 2)
        await noted(service, endpoint, 2)
    both, one = receiver.taken
    for secret in (former, new):
        Webhook(secret).verify(both.body, both.headers)
    Webhook(new).verify(one.body, one.headers)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert len(one.headers["webhook-signature"].split(" ")) == 1


async def test_an_address_is_checked_at_each_connection(service: Service) -> None:
    """The name of an endpoint may lead elsewhere than it did when it was registered."""
    async with receiving() as receiver, delivering(service):
        url = receiver.url.replace(f"http://{HOST}", "https://localhost")
        literal = receiver.url.replace("http://", "https://")
        by_name = await register(service, url, allow_private=False)
        by_address = await register(service, literal, allow_private=False)
        public = await register(service, "http://8.8.8.8/hook")
        metadata = await register(service, "http://169.254.169.254/latest/meta-data")
        await change(service, 1)
        errors = {
            each: (await failed(service, each)).last_error or ""
            for each in (by_name, by_address, public, metadata)
        }
    assert receiver.attempts == []
    assert "127.0.0.1 is in a private network" in errors[by_address]
    assert "is in a private network" in errors[by_name]
    assert "plain HTTP is only for private networks" in errors[public]
    assert "169.254.169.254 is reserved" in errors[metadata]


async def test_certificates_are_checked(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, stranger = trustme.CA(), trustme.CA()
    known.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    sender._tls.cache_clear()

    def serves(authority: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert(name).configure_cert(context)
        return context

    async with (
        receiving(serves(known, "localhost"), "localhost") as trusted,
        receiving(serves(stranger, "localhost"), "localhost") as forged,
        receiving(serves(known, "other.example"), "localhost") as misnamed,
        delivering(service),
    ):
        await register(service, trusted.url)
        others = [await register(service, each.url) for each in (forged, misnamed)]
        await change(service, 1)
        await arrived(trusted, 1)
        errors = [(await failed(service, each)).last_error or "" for each in others]
    sender._tls.cache_clear()
    assert forged.attempts == misnamed.attempts == []
    assert all(error.startswith("has a certificate that is not accepted") for error in errors)
    assert "Hostname mismatch" in errors[1]


_ANSWERS = {
    "closes at once": (b"", "closed the connection"),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "no answer that can be read"),
    "endless header": (b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000, "no answer that can be read"),
    "part of a status": (b"HTTP/1.1 20", "closed the connection"),
}


@pytest.mark.parametrize(("answer", "error"), _ANSWERS.values(), ids=_ANSWERS)
async def test_any_other_answer_is_a_failure(service: Service, answer: bytes, error: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    async with server, delivering(service):
        endpoint = await register(service, f"http://{HOST}:{port}/")
        nobody = await register(service, f"http://{HOST}:1/")
        unknown = await register(service, "https://nowhere.invalid/")
        await change(service, 1)
        errors = [
            (await failed(service, each)).last_error or "" for each in (endpoint, nobody, unknown)
        ]
    assert error in errors[0]
    assert errors[1] == "cannot be reached: Connection refused"
    assert errors[2] == "has a name that cannot be found"


async def test_another_worker_goes_on_when_the_first_one_is_cut_off(service: Service) -> None:
    slow = asyncio.Event()

    async def hang_once(delivery: Delivery) -> web.Response:
        if not slow.is_set() and delivery.id == "CUST-1002:1":
            slow.set()
            return await hang(delivery)
        return web.Response()

    async with receiving() as receiver, delivering(service, workers=2):
        receiver.answer = hang_once
        endpoint = await register(service, receiver.url)
        await change(service, 1, 2)
        await slow.wait()
        await service.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks"
            " WHERE locktype = 'advisory' AND objid = :lock",
            lock=AdvisoryLock.DELIVERIES,
        )
        await arrived(receiver, 2)
        await change(service, 1, 2)
        await noted(service, endpoint, 4)
    for sequences in receiver.sequences().values():
        assert sequences in ([1, 2], [1, 1, 2])


async def test_numbers_that_the_relay_gives_again_leave_nothing_out(service: Service) -> None:
    """Whoever can write the stream makes the relay number its events anew."""
    async with receiving() as receiver, delivering(service):
        endpoint = await register(service, receiver.url)
        await change(service, 1, 2)
        await noted(service, endpoint, 2)
        stream = service.config.changes_stream
        await service.redis.xadd(stream, {"__data__": "forged"}, id="500-0")
        await change(service, 1)
        await noted(service, endpoint, 3)
        # Redis loses everything, and somebody else is there before the relay.
        async with service.redis.pipeline(transaction=True) as pipe:
            pipe.delete(stream)
            pipe.xadd(stream, {"__data__": "forged"}, id="9000-0")
            await pipe.execute()
        await change(service, 2, 3)

        async def has_all() -> bool:
            return len(set(receiver.ids)) == 5

        await until(has_all)

        async def is_through() -> bool:
            return not (await stored(service, endpoint)).waiting

        await until(is_through)
    for sequences in receiver.sequences().values():
        first = [each for n, each in enumerate(sequences) if each not in sequences[:n]]
        assert first == sorted(first)
    await service.execute("UPDATE foreign_entries SET acknowledged_at = now()")
