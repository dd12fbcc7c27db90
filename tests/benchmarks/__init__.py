"""Measurements of speed. Nothing here is a test: they report, and assert nothing about time."""
