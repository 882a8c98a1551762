"""Tests that bad input is refused with a reason and harms no other entry or request."""
