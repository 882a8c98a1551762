"""A real shop's purchases as a stream of order events, for looking at everything at work.

Nothing here does I/O but reading the packaged data: who calls, publishes.
"""
