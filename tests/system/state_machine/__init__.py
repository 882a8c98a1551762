"""Tests that compare random mixtures of operations with a model in plain Python."""
