"""Tests of streams: what Redis loses is noticed, and what it may forget is trimmed."""
