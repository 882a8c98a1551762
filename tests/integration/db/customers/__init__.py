"""Tests of `service/db/customers/`, through the routes that use it."""
