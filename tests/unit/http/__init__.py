"""Tests of the documents and pages that `service/http/` writes without a server."""
