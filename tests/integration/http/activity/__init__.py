"""Tests of recent activity: the list and the live stream."""
