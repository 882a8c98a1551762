"""The web process: thin routes over `service.db`, and the dashboard."""
