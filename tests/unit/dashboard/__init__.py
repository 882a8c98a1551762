"""Tests of the dashboard's words and numbers."""
