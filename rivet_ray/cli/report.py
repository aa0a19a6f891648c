"""What `rivet-ray doctor` prints: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap
from typing import Any

from rivet_ray.cli.actor_checks import GROUPS, ActorChecks
from rivet_ray.cli.sizes import Growth, Largest, Sizes
from rivet_ray.ids import escape_key
from rivet_ray.store import ActorType, Finding, HostLease, TypeSize

WIDTH = 100
LONGEST_NAME = 40
"""Characters of a type that people see; programs get all."""
MOST_TYPES = 50
"""Types that people see, the largest ones; programs get all."""
MOST_HOSTS = 50
"""Hosts that people see, those first that are not marked as dead."""
DAY = 86_400.0
SHORT = 3600.0
"""A look of fewer seconds says little of a day."""


@dataclass(slots=True)
class Report:
    """The results of the looks that came to their end."""

    findings: list[Finding] = field(default_factory=list[Finding])
    actors: ActorChecks | None = None
    sizes: Sizes | None = None
    growth: Growth | None = None
    growth_left_out: str = ""
    """Why it was not looked at, if nobody asked for that."""
    largest: Largest | None = None
    hosts: Sequence[HostLease] | None = None

    @property
    def all_findings(self) -> list[Finding]:
        return self.findings + ([] if self.actors is None else self.actors.findings())

    @property
    def well(self) -> bool:
        return not any(finding.alarming for finding in self.all_findings)

    def for_programs(self) -> str:
        """One line of JSON. A part is null if the command did not look at it."""
        told = {
            "ok": self.well,
            "findings": [asdict(finding) for finding in self.all_findings],
            "actors": self.actors and _checks(self.actors),
            "sizes": self.sizes and {"at": self.sizes.at, **_totals(self.sizes.types)},
            "growth": self.growth
            and {"seconds": self.growth.seconds, **_totals(self.growth.types)},
            "largest": self.largest
            and {
                "looked_at": self.largest.looked_at,
                "complete": self.largest.complete,
                "actors": [
                    {"id": one.id, **_type(one.type), "key": one.key, "bytes": one.bytes}
                    for one in self.largest.actors
                ],
            },
            "hosts": None if self.hosts is None else [asdict(host) for host in self.hosts],
        }
        return json.dumps(told)

    def for_people(self) -> str:
        """Lines of at most WIDTH characters."""
        parts = [self._findings(), self._sizes(), self._largest(), self._hosts()]
        count = sum(finding.alarming for finding in self.all_findings)
        parts.append(["Nothing to mend." if self.well else f"To mend: {count}."])
        return "\n\n".join("\n".join(lines) for lines in parts if lines)

    def _findings(self) -> list[str]:
        width = max((len(finding.subject) for finding in self.all_findings), default=0)
        lines: list[str] = []
        for finding in self.all_findings:
            start = f"{finding.verdict.value:8} {finding.subject:{width}}  "
            indent = " " * len(start)
            found = wrap(finding.found, WIDTH, initial_indent=start, subsequent_indent=indent)
            lines += [*found, *_indented(finding.advice, indent)]
        return lines

    def _sizes(self) -> list[str]:
        if self.sizes is None:
            return []
        if not self.sizes.types and not (self.growth and self.growth.types):
            return ["The store holds no actors."]
        growth = self.growth
        grown = {one.type: one for one in growth.types} if growth else {}
        held = {one.type: one for one in self.sizes.types}
        none = _total(())
        of = sorted({*held, *grown}, key=lambda one: (-held.get(one, none).bytes, one))
        rows = [
            [_name(one), *_row(held.get(one, none), grown.get(one, none), growth)]
            for one in of[:MOST_TYPES]
        ]
        total, change = _total(self.sizes.types), _total(growth.types if growth else ())
        rows.append([f"all types ({len(of)})", *_row(total, change, growth)])
        header = ["type", "actors", "bytes"]
        if growth is not None:
            header += [f"in {growth.seconds:.1f} s", "", "at this rate in a day", ""]
        lines = _table([header, *rows])
        if len(of) > MOST_TYPES:
            lines.append(f"These are the {MOST_TYPES} largest types; --json has all.")
        if self.growth_left_out:
            lines += wrap(self.growth_left_out, WIDTH)
        elif growth is not None and growth.seconds < SHORT:
            lines += wrap(
                f"A look of {growth.seconds:.1f} s says little of a day. For more, use a longer"
                " --growth, or compare the sizes in two outputs of --json.",
                WIDTH,
            )
        return lines

    def _largest(self) -> list[str]:
        found = self.largest
        if found is None or not found.actors:
            return []
        title = f"The largest actors of the {found.looked_at:,} looked at"
        if not found.complete:
            title += "; there are more, look at them with a higher --actors"
        lines = [f"{title}:"]
        for one in found.actors:
            key = _short(repr(escape_key(one.key)))
            lines.append(f"{readable(one.bytes):>10}  {_name(one.type, 24)}  {key}  {one.id}")
        return lines

    def _hosts(self) -> list[str]:
        if not self.hosts:
            return []
        # The living have a beat that grows, which one look cannot tell.
        living = [host for host in self.hosts if not host.dead]
        dead = len(self.hosts) - len(living)
        lines = [f"Hosts that nobody has marked as dead: {len(living):,}; marked: {dead:,}."]
        for host in sorted(self.hosts, key=lambda host: host.dead)[:MOST_HOSTS]:
            names = (
                f"{_printable(host.incarnation)}  {_printable(host.address, 30) or 'no address'}"
            )
            lines.append(f"  {names}  beat {host.beat:,}{'  dead' if host.dead else ''}")
        if len(self.hosts) > MOST_HOSTS:
            lines.append(f"These are {MOST_HOSTS} of them; --json has more.")
        return lines


def readable(size: int) -> str:
    """Bytes as people read them: thousands, three digits and more."""
    if abs(size) < 1000:
        return f"{size} B"
    value = float(size)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if abs(value) < 999.95:
            return f"{value:.1f} {unit}"
    return f"{value:,.0f} TB"


def _row(held: TypeSize, grown: TypeSize, growth: Growth | None) -> list[str]:
    row = [f"{held.actors:,}", readable(held.bytes)]
    if growth is not None:
        days = DAY / growth.seconds if growth.seconds > 0 else 0.0
        row += [f"{grown.actors:+,}", _signed(grown.bytes)]
        row += [f"{round(grown.actors * days):+,}", _signed(round(grown.bytes * days))]
    return row


def _signed(size: int) -> str:
    return ("+" if size >= 0 else "") + readable(size)


def _total(types: Sequence[TypeSize]) -> TypeSize:
    """The sum of those types, as of a type without a name."""
    actors, size = sum(one.actors for one in types), sum(one.bytes for one in types)
    return TypeSize(ActorType("", ""), actors, size)


def _totals(types: Sequence[TypeSize]) -> dict[str, Any]:
    total = _total(types)
    return {
        "actors": total.actors,
        "bytes": total.bytes,
        "types": [{**_type(one.type), "actors": one.actors, "bytes": one.bytes} for one in types],
    }


def _checks(checks: ActorChecks) -> dict[str, Any]:
    return {
        "looked_at": checks.groups.total(),
        "complete": checks.complete,
        "groups": {name: checks.groups[group] for group, name in GROUPS.items()},
        "misfits": [
            {
                "id": record.id,
                **_type(record.type),
                "key": record.key,
                "part": misfit.part.value,
                "why": misfit.why,
            }
            for record, misfit in checks.misfits
        ],
        "more_misfits": checks.unnamed,
    }


def _type(of: ActorType) -> dict[str, str]:
    return {"namespace": of.namespace, "name": of.name}


def _name(of: ActorType, longest: int = LONGEST_NAME) -> str:
    return _printable(f"{of.namespace}/{of.name}", longest)


def _printable(text: str, longest: int = LONGEST_NAME) -> str:
    return _short(text if text.isprintable() else repr(text), longest)


def _short(text: str, longest: int = LONGEST_NAME) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column is text, the others are numbers; headers of two end with an empty one."""
    widths = [max(map(len, column)) for column in zip(*rows[1:], strict=True)]
    header, *numbers = rows
    widths[0] = max(widths[0], len(header[0]))
    for at in range(1, 3):
        widths[at] = max(widths[at], len(header[at]))
    for at in range(3, len(header), 2):
        widths[at + 1] = max(widths[at + 1], len(header[at]) - widths[at] - 2)
    titles = [f"{header[0]:{widths[0]}}"]
    titles += [f"{header[at]:>{widths[at]}}" for at in range(1, 3)]
    titles += [
        f"{header[at]:>{widths[at] + 2 + widths[at + 1]}}" for at in range(3, len(header), 2)
    ]
    lines = ["  ".join(titles)]
    for row in numbers:
        cells = [f"{row[0]:{widths[0]}}"]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _indented(text: str, indent: str) -> list[str]:
    return wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
