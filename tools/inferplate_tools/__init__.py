"""Checks and measures what the template emits."""
