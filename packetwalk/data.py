"""A trace as plain data, for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packetwalk.packet import size, visible
from packetwalk.text import evidence
from packetwalk.totals import totals

if TYPE_CHECKING:
    from packetwalk.trace import Step, Trace

VERSION = 4
"""It grows when the form changes."""


def to_dict(trace: Trace) -> dict[str, object]:
    """The whole trace in dicts, lists, texts and numbers."""
    flow, result = trace.flow, trace.result
    return {
        "version": VERSION,
        "network": trace.network,
        "flow": {k: _plain(getattr(flow, k)) for k in flow.__slots__},
        "result": {k: _plain(getattr(result, k)) for k in result.__slots__},
        "totals": totals(trace)._asdict(),
        "note": trace.note,
        "unevaluated": {room: list(names) for room, names in trace.unevaluated.items()},
        "hops": [
            {
                "room": visit.room,
                "dev": visit.dev,
                "at_ns": visit.at,
                "took_ns": visit.took,
                "cause": list(visit.cause) if visit.cause else None,
                "steps": [_step_dict(s, at) for s, at in zip(visit.steps, visit.times, strict=True)],
            }
            for visit in trace.hops
        ],
    }


def _step_dict(step: Step, at: int) -> dict[str, object]:
    headers = visible(step.packet).headers
    return {
        "stage": step.stage,
        "dev": step.dev,
        "what": evidence(step),
        "kind": type(step.what).__name__ if step.what is not None else "",
        "at_ns": at,
        "packet": {
            "size": size(step.packet) if step.packet.headers else 0,
            "headers": [{"name": type(h).__name__, **{k: _plain(v) for k, v in h._asdict().items()}} for h in headers],
        },
    }


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value if type(value) in (int, str, bool, float, type(None)) else str(value)
