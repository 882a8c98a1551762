"""JSON responses, written as the contract has it."""

from starlette.responses import Response

from service.core.json_values import dumps


class Json(Response):
    """A response in that form."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Serialize the content."""
        return dumps(content)
