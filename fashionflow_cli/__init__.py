"""Command line `fashionflow`: parse, call, print."""
