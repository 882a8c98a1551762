"""Assign segments, and keep the history of every change."""
