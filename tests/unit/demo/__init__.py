"""Tests of `service/demo/`: its people, its history and its live orders."""
