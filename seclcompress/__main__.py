"""`python -m seclcompress` is the `seclcompress` command."""

from seclcompress.cli import main

if __name__ == "__main__":
    main()
