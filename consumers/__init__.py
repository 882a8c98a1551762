"""The worker's moving parts: consuming orders, reclaiming, relaying, sweeping."""
