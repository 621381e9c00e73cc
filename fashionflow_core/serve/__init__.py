"""Serving: jobs over HTTP, and a page for people without a terminal (extra serve)."""
