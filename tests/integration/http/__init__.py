"""Tests of `service/http/` on real servers: routes, sign-in, probes and live streams."""
