"""Write into files of ``deploy`` the digests of the images they name, as the registry has them.

``python tools/pin_images.py FILE…``, or ``make pin-images``. A tag can be moved to other content,
a digest cannot. Asks Docker for the digest of every ``NAME:TAG`` in the files, pinned already or
not, and writes ``NAME:TAG@sha256:…`` in its place; images built here (``:local``) have none. Run it
after a change of a tag, look at the difference, and commit it. Nothing is written if a digest
cannot be found.
"""

import re
import subprocess
import sys
from pathlib import Path

# An image after a word that introduces one, in a Dockerfile or a Compose file.
IMAGE = re.compile(
    r"(?P<before>(?:^ARG \w+_IMAGE=|^FROM |image: (?:&\S+ )?))"
    r"(?P<name>[a-z0-9][a-z0-9./_-]*:(?!local\b)[\w.-]+)(?:@sha256:[0-9a-f]{64})?",
    re.MULTILINE,
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class UnknownDigestError(Exception):
    """The registry, or Docker, does not tell the digest of an image; the text says why."""


def digest(image: str) -> str:
    """Ask the registry what a tag names; raises UnknownDigestError."""
    command = [
        "docker",
        "buildx",
        "imagetools",
        "inspect",
        image,
        "--format",
        "{{.Manifest.Digest}}",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        text = f"{image}: docker cannot be run ({error.strerror}); install it with buildx"
        raise UnknownDigestError(text) from error
    found = answer.stdout.strip()
    if answer.returncode or not DIGEST.fullmatch(found):
        why = answer.stderr.strip().splitlines()[-1:] or [found or "no answer"]
        text = f"{image}: the registry tells no digest ({why[0]}); check the name and the network"
        raise UnknownDigestError(text)
    return found


def pinned(text: str, digests: dict[str, str]) -> str:
    """Return a file's text with the digest of every image in it; asks for each image once."""

    def replacement(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in digests:
            digests[name] = digest(name)
        return f"{match['before']}{name}@{digests[name]}"

    return IMAGE.sub(replacement, text)


def main(files: list[Path]) -> int:
    """Pin the images of these files; return the exit code."""
    digests: dict[str, str] = {}
    try:
        texts = {file: pinned(file.read_text(encoding="utf-8"), digests) for file in files}
    except UnknownDigestError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    for file, text in texts.items():
        file.write_text(text, encoding="utf-8")
    for name, found in digests.items():
        sys.stdout.write(f"{name}@{found}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
