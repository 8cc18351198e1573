"""Times `seclcompress --help` and a usage error; the promise is under half a second.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys

from seclcompress.timing import alternate, describe_machine

CASES = {
    "--help": ["--help"],
    "count --help": ["count", "--help"],
    "distill --help": ["distill", "--help"],
    "usage error": ["count", "resnet18", "--input-size", "big"],
    "python -c pass": [],
}


def run(arguments: list[str]) -> None:
    command = ["-m", "seclcompress", *arguments] if arguments else ["-c", "pass"]
    subprocess.run([sys.executable, *command], capture_output=True, check=False)


def main() -> None:
    print(describe_machine())
    cases = {name: (lambda a=arguments: run(a)) for name, arguments in CASES.items()}
    for name, timing in alternate(cases).items():
        print(f"{name:16s} {timing.median:6.3f} s  (interquartile range {timing.spread:.3f} s)")


if __name__ == "__main__":
    main()
