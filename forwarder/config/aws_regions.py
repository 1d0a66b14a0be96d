"""AWS's partitions and regions, from the data of the AWS library that is installed.

A new region or partition comes with the next version of the library. Only its data is read, no
code of it: the file has the form that all of AWS's SDKs share (``aws_partitions.json`` of their
endpoint rules).
"""

import importlib.util
import json
import re
from functools import cache
from pathlib import Path

import msgspec

_DATA = "data/partitions.json"
_PSEUDO = "-global"
"""How names of regions end that stand for a whole partition; nothing can be sent there."""


class AwsPartition(msgspec.Struct, frozen=True):
    """One partition: the first part of its ARNs, its domain, the regions known, their pattern."""

    name: str
    suffix: str
    regions: tuple[str, ...]
    pattern: re.Pattern[str]


@cache
def aws_partitions() -> tuple[AwsPartition, ...]:
    """Return every partition, the usual one first."""
    library = importlib.util.find_spec("botocore")
    if library is None or library.origin is None:
        message = "botocore is not installed"
        raise ModuleNotFoundError(message)
    told = json.loads((Path(library.origin).parent / _DATA).read_text())
    return tuple(
        AwsPartition(
            each["id"],
            each["outputs"]["dnsSuffix"],
            tuple(sorted(name for name in each["regions"] if not name.endswith(_PSEUDO))),
            re.compile(each["regionRegex"], re.ASCII),
        )
        for each in told["partitions"]
    )


@cache
def known_regions() -> frozenset[str]:
    """Return every region that is known."""
    return frozenset(name for each in aws_partitions() for name in each.regions)


def find_partition(region: str) -> AwsPartition | None:
    """Return the partition of a region, known or new; None for what can be no region."""
    for each in aws_partitions():
        if region in each.regions:
            return each
    return next((each for each in aws_partitions() if each.pattern.fullmatch(region)), None)


def partition_name(region: str) -> str:
    """Return the name of a region's partition; of what is no region that of the usual one."""
    found = find_partition(region)
    return found.name if found else aws_partitions()[0].name


@cache
def partition_names() -> tuple[str, ...]:
    """Return the names of all partitions."""
    return tuple(each.name for each in aws_partitions())
