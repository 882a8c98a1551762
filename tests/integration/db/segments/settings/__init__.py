"""Tests of the segment settings: saving, previewing, applying them to all customers."""
