"""Tests of dead letters, over HTTP and on the command line."""
