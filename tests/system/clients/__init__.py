"""Tests that run the programs of `deploy/integrating.md` exactly as the page prints them."""
