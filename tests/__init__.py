"""Tests on real servers; only the pure core is tested without them."""
