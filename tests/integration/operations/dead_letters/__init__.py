"""Dead letters: found, looked at, replayed, discarded; over HTTP and on the command line."""
