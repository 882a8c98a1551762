"""Tests of API keys, users, scopes, local mode and limits."""
