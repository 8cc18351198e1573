"""What each command needs on its command line, for tests that go over all of them."""

from __future__ import annotations

#: Behind the network, folder or pattern.
ON_A_NETWORK = {
    "count": "",
    "train": "--data digits -o out",
    "plan": "--budget parameters=40k",
    "slim": "--budget parameters=40k -o out",
    "convert": "-o out",
    "recover": "--teacher wrn10_1 --data digits -o out",
    "distill": "--teacher wrn10_1 --data digits -o out",
    "search": "--data digits --budget parameters=40k -o out",
    "tune": "--data digits --search lr=0.1,0.2 -o out",
    "evaluate": "--data digits",
    "export": "-o out.onnx",
    "bench": "",
    "report": "-o out.html",
    "survey": "",
    "widths": "--data digits",
    "upload": "owner/name",
}

#: Those that list names.
LISTING = ("networks", "substitutions", "recipes")

#: Those that print the schemas of the others.
SCHEMA = ("schema",)

EVERY = (*ON_A_NETWORK, *LISTING, *SCHEMA)
