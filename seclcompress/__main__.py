"""The `seclcompress` command, also as `python -m seclcompress`."""

from seclcompress.interrupt import ends_the_program


def main() -> None:
    """The console script."""
    with ends_the_program():  # before the import, which takes a while
        from seclcompress.cli import main as run

        run()


if __name__ == "__main__":
    main()
