"""The demo's data: a real shop's purchases as a stream of order events.

The only I/O here is reading the packaged files. The caller publishes the events.
"""
