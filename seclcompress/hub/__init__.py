"""Folders in repositories of the Hugging Face Hub: `hf://OWNER/NAME[@REVISION]`.

`reference` says which repository is meant, `fetching` brings files into the Hub's own cache on this
machine, `uploading` sends files, and `refusals` puts into words what the Hub or the network answers.
Nothing is downloaded or sent unless it was asked for. `huggingface_hub` is an extra, imported where it
is used; tokens, caches and endpoints are in its own places.
"""

from seclcompress.hub.fetching import content_of, fetch
from seclcompress.hub.reference import PREFIX, Reference, is_reference, parse
from seclcompress.hub.uploading import Sent, send

__all__ = ["PREFIX", "Reference", "Sent", "content_of", "fetch", "is_reference", "parse", "send"]
