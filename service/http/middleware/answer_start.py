"""Act when the answer to a request begins, as several middlewares do."""

from collections.abc import Callable

from starlette.types import Message, Send


def on_start(send: Send, act: Callable[[Message], None]) -> Send:
    """Return a `send` that first calls ``act`` with the message that begins the answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            act(message)
        await send(message)

    return sending
