"""Tests of the API's security and for secrets in the checkout; tools that check packages."""
