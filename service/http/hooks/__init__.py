"""Webhooks of shops: ``POST /hooks/{platform}``.

A module for each platform says how its requests are signed, and what its topics mean. See
docs/webhooks-in.md for how to add one.
"""
