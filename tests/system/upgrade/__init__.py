"""Releases that follow each other on one database, and what they run on."""
