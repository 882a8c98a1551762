"""Licences, the audit's verdict, and the list of risks."""
