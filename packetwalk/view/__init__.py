"""Showing traces: reads them, never changes them."""
