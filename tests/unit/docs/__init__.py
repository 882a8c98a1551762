"""Tests that README, CONTRIBUTING and docs/ agree with the code."""
