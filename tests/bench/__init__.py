"""Measurements. People run them (`make bench`); no test asserts a duration."""
