"""What the Hub, the network or the cache refuses, in words."""

from __future__ import annotations

from seclcompress.errors import HubError, short
from seclcompress.hub.reference import MAIN, Reference

LOG_IN = "log in with `hf auth login`, or put a token into HF_TOKEN"


def refusal(error: Exception, what: str, reference: Reference) -> HubError:
    """Puts into words why a call of huggingface_hub failed.

    Args:
        error: What it raised.
        what: What could not be done, the beginning of the message.
        reference: The repository.
    """
    from huggingface_hub import constants, errors

    where = constants.ENDPOINT
    if isinstance(error, errors.GatedRepoError):
        why = (
            f"its owner lets in only those who have agreed to the terms on {where}/"
            f"{reference.repository}. Do so there, then {LOG_IN}."
        )
    elif isinstance(error, errors.RepositoryNotFoundError):
        why = f"{where} has no such repository, or it is private: then {LOG_IN}."
    elif isinstance(error, errors.RevisionNotFoundError):
        why = f"the repository has no revision {reference.revision or MAIN}."
    elif isinstance(error, errors.OfflineModeIsEnabled):
        why = (
            "HF_HUB_OFFLINE is set. Unset it, or use what was downloaded before without --download."
        )
    elif isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code
        said = _line(error.server_message or "")
        advice = f" You may not do this with your token: {LOG_IN}." if status in (401, 403) else ""
        why = f"{where} answers {status}{': ' + said if said else ''}.{advice}"
    elif isinstance(error, ValueError):  # the card's head, say, which a person has edited
        why = f"{_line(str(error))}."
    else:
        why = (
            f"{where} was not reached, or something failed on the way ({type(error).__name__}: "
            f"{_line(str(error))}). What was downloaded before is used without --download."
        )
    return HubError(f"{what}: {why}")


def _line(text: str) -> str:
    lines = text.strip().splitlines() or [""]
    return short(lines[0], 300).rstrip(".")
