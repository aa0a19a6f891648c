"""Run the benchmarks: `python -m loadtests.bench [--quick] [--only PART ...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtests.bench import cluster, hosts, resident, stores, wire
from loadtests.bench.report import Report

PARTS = ("wire", "stores", "cluster", "hosts", "resident")
"""`cluster` is actions on Ray, `hosts` the start and the death of hosts there."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once each, and fewer actors")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    options = parser.parse_args()
    repetitions = 1 if options.quick else 3
    report = Report()
    if "wire" in options.only:
        wire.run(report, repetitions=repetitions)
    if "stores" in options.only:
        stores.run(report, repetitions=repetitions)
    if "cluster" in options.only:
        cluster.run(report, repetitions=repetitions)
    if "hosts" in options.only:
        hosts.run(report, often=3 if options.quick else 7)
    if "resident" in options.only:
        number = 5_000 if options.quick else 50_000
        resident.run(report, number=number, repetitions=repetitions)
    report.write(options.output)


main()
