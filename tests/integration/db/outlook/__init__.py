"""Tests of what is expected of customers, on a real database."""
