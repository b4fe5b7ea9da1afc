"""The way of a walk: the rooms in order, and what each did to the packet. It is the minimal form of a trace."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from packetwalk.packet import Arp
from packetwalk.text import BAD, delivers, evidence, outcome, sections
from packetwalk.totals import tunnel_of

if TYPE_CHECKING:
    from packetwalk.trace import Step, Trace


class Turn(NamedTuple):
    """A room on the way. marks: what it put on or took off, rewrote, dropped; end: somebody got there what was sent,
    or it died there."""

    room: str
    marks: tuple[str, ...]
    end: bool

    def __str__(self) -> str:
        return f"{self.room} [{', '.join(self.marks)}]" if self.marks else self.room


def way(trace: Trace) -> list[Turn]:
    """The rooms on the way there and back, without those that only ARP came by."""
    turns: list[Turn] = []
    for section in sections(trace):
        steps = [s for visit in section.hops for s in visit.steps]
        if steps and all(isinstance(s.packet.headers[-1], Arp) for s in steps if s.packet.headers):
            continue
        turn = Turn(section.room, _marks(steps), delivers(section, trace) or any(s.stage in BAD for s in steps))
        if turns and turns[-1].room == section.room:  # fragments, or what waited for ARP
            last = turns.pop()
            turn = Turn(turn.room, tuple(dict.fromkeys((*last.marks, *turn.marks))), last.end or turn.end)
        turns.append(turn)
    return turns


def _marks(steps: list[Step]) -> tuple[str, ...]:
    marks = []
    for before, s in zip([None, *steps], steps, strict=False):
        if s.stage == "encap":
            marks.append(f"+{tunnel_of(s.packet)}")
        elif s.stage == "decap" and before is not None:
            marks.append(f"-{tunnel_of(before.packet)}")
        elif s.stage in ("nat", "ipvs"):
            marks.append(f"{s.stage} {getattr(s.what, 'side', '')}")
        elif s.stage == "drop":
            marks.append(f"drop {getattr(s.what, 'reason', '')}")
        elif s.stage == "unsupported":
            marks.append(f"unsupported {evidence(s)}")
        elif s.stage == "icmp_error":
            marks.append(evidence(s))
    return tuple(dict.fromkeys(marks))


def minimal(trace: Trace) -> str:
    """The rooms on the way with what each put on or took off, and the outcome: what golden tests pin."""
    return f"{' > '.join(map(str, way(trace)))} : {outcome(trace)}"
