"""The segment settings: saved, previewed, applied to everybody."""
