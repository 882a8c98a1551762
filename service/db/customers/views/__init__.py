"""Views: filters with a name. Those that people saved, those that every shop has, their counts."""
