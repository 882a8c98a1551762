"""Licences, audits and the list of risks."""
