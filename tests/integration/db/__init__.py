"""Tests of `service/db/`: the schema and the connections here, each subject in its folder."""
