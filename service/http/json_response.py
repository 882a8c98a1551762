"""JSON responses, with money and times written as the API promises."""

from starlette.responses import Response

from service.core.json_values import dumps


class Json(Response):
    """A response whose content `service.core.json_values` writes."""

    media_type = "application/json"

    def render(self, content: object) -> bytes:
        """Write the content."""
        return dumps(content)
