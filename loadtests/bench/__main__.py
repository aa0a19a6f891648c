"""Run the benchmarks: `python -m loadtests.bench [--quick]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from loadtests.bench import cluster, resident, stores, wire
from loadtests.bench.report import Report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once each, and fewer actors")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    repetitions = 1 if options.quick else 3
    report = Report()
    wire.run(report, repetitions=repetitions)
    stores.run(report, repetitions=repetitions)
    cluster.run(report, repetitions=repetitions)
    resident.run(report, number=5_000 if options.quick else 50_000, repetitions=repetitions)
    report.write(options.output)


main()
