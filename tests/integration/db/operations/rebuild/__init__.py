"""Tests of `crm rebuild`: recomputing all derived values from the stored orders."""
