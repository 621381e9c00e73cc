"""`python -m fashionflow_cli`, for where the console script is not on the path."""

from fashionflow_cli.main import main

if __name__ == "__main__":
    main()
