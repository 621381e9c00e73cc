"""`python -m fashionflow_cli`."""

from fashionflow_cli.main import main

if __name__ == "__main__":
    main()
