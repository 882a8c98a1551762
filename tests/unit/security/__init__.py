"""Tests of licences, of the audit's verdict, of the API's document and of the list of risks."""
