"""Tests of `service/db/statistics/`, and of the list of unattributed orders."""
