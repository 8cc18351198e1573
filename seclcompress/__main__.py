"""The entry point of the `seclcompress` command and of `python -m seclcompress`."""

from seclcompress.interrupt import ends_the_program


def main() -> None:
    """Runs the command line."""
    with ends_the_program():  # entered before the import, which takes a while
        from seclcompress.cli import main as run

        run()


if __name__ == "__main__":
    main()
