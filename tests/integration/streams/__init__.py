"""What Redis loses is noticed; what it may forget is trimmed."""
