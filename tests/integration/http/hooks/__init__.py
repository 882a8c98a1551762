"""Webhooks of shops, on real servers."""
