"""The `crm` commands: what they do and print."""
