"""How commands print, without a terminal or a server."""
