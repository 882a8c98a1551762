"""A stand-in for ``crm worker`` and ``crm web``: ready at once, and deaf to SIGTERM if asked."""

import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Ready(BaseHTTPRequestHandler):
    """Answers every request that it is ready."""

    def do_GET(self) -> None:
        """Answer 200."""
        self.send_response(200)
        self.end_headers()


if __name__ == "__main__":
    if os.environ.get("DEAF_PART") == sys.argv[1]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    variable = {"web": "CRM_HTTP_PORT", "worker": "CRM_WORKER_PORT"}[sys.argv[1]]
    HTTPServer(("127.0.0.1", int(os.environ[variable])), Ready).serve_forever()
