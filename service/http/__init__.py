"""The HTTP side: thin routes over `service.db`."""
