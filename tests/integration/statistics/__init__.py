"""Figures over time: cohorts and the daily trend, and the orders of nobody."""
