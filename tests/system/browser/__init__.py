"""Tests of the dashboard: its pages, dialogs, sign-in and sessions."""
