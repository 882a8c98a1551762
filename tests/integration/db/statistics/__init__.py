"""Tests of `service/db/statistics/`, through the routes that use it."""
