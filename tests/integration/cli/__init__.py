"""The command line, tested as processes."""
