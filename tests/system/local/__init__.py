"""Tests of `service/local/`: `crm up` and its servers, with real processes and signals."""
