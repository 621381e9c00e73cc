"""The `fashionflow` command: parse, call, print. No tensor work happens here."""
