"""The demo's data, its people, its history and its trickle of orders."""
