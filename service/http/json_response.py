"""JSON responses, which write money and times as the API promises."""

from starlette.responses import Response

from service.core.json_values import dumps


class Json(Response):
    """A response whose content `service.core.json_values` writes."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Return the content as JSON."""
        return dumps(content)
