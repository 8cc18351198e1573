"""`seclcompress upload`."""

from __future__ import annotations

from typing import Annotated

import typer

from seclcompress.cli import options as o
from seclcompress.cli.console import loading
from seclcompress.cli.drawing import Drawing
from seclcompress.cli.streams import write_result
from seclcompress.wording import printable


def upload(
    folder: Annotated[
        str, typer.Argument(metavar="FOLDER", help="A folder that this program wrote.")
    ],
    repository: Annotated[
        str,
        typer.Argument(
            metavar="OWNER/NAME", help="The repository, as it is called on the Hugging Face Hub."
        ),
    ],
    create: Annotated[
        bool,
        typer.Option("--create", help="Make the repository, or the branch, if it is not there."),
    ] = False,
    private: Annotated[
        bool,
        typer.Option("--private", help="Make it private; refuse one that is there and public."),
    ] = False,
    revision: Annotated[
        str | None,
        typer.Option(
            "--revision", metavar="BRANCH", help="The branch to write to.  [default: main]"
        ),
    ] = None,
    message: Annotated[
        str | None, typer.Option("--message", metavar="TEXT", help="The message of the commit.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of the same names that are there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent; connect to nobody.")
    ] = False,
    json: o.JsonOption = False,
) -> None:
    """Send a saved folder to a repository of the Hugging Face Hub.

    Only files that this program wrote are sent. It uses the token of `hf auth login`, or HF_TOKEN.
    """
    with loading():
        from seclcompress.workflows.sharing import upload as run
    found = run(
        folder,
        repository,
        create=create,
        private=private,
        revision=revision,
        message=message,
        overwrite=overwrite,
        dry_run=dry_run,
        observer=Drawing(),
    )
    if json:
        from seclcompress.report.records import UploadRecord

        record = UploadRecord(
            folder=folder,
            repository=found.repository,
            files=dict(found.files),
            url=found.url,
            commit=found.commit,
            created=found.created,
        )
        write_result(record.to_json())
        return
    width = max(map(len, found.files))
    for name, size in found.files.items():
        typer.echo(printable(f"{name:{width}}  {size:>13,} bytes"))
    typer.echo(
        f"Would be sent to {found.repository}."
        if found.url is None
        else f"Sent to {found.repository}: {found.url}"
    )
