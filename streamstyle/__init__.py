"""Stylize video: every object and the background in a style of its own."""
