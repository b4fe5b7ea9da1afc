"""Words for steps, hops and traces."""
from __future__ import annotations
from typing import Any
def hop(h: Any) -> str: return f"{h.room}"
def summary(t: Any) -> str: return full(t)
def minimal(t: Any) -> str: return ""
def to_dict(t: Any) -> dict[str, object]: return {}
def full(t: Any) -> str:
    out=[]
    for i,h in enumerate(t.hops):
        out.append(f"{i+1} {h.room} {h.dev} {h.at/1000:.1f}us {h.why} {h.cause}")
        for s,at in zip(h.steps,h.times):
            out.append(f"    {s.stage:12} {s.dev:16} {s.what}   {s.packet}")
    out.append(str(t.result)); return "\n".join(out)
