"""What the command line answers to a walk: the trace, a table it left behind, every branch, the exit status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packetwalk.cli.options import DELIVERED, NOT_DELIVERED, UNSUPPORTED

if TYPE_CHECKING:
    from packetwalk.engine.branches import Branch
    from packetwalk.exchanges import Fetch
    from packetwalk.trace import Trace


def text_of(trace: Trace | Fetch, layout: str, colour: bool) -> str:
    """A trace, or the exchanges for a URL, in one of the layouts: summary, full, minimal or json."""
    if layout == "json":
        import json

        return json.dumps(trace.to_dict(), indent=1)
    if layout == "minimal":
        return trace.minimal()
    from packetwalk import text
    from packetwalk.exchanges import Fetch

    if isinstance(trace, Fetch):
        return trace.text(full=layout == "full", color=colour)
    return text.full(trace, color=colour) if layout == "full" else text.summary(trace, color=colour)


def after_of(trace: Trace | Fetch, table: tuple[str, str] | None) -> str:
    """A table as the walk left it, as the tool prints it that shows it on a real host."""
    if table is None:
        return ""
    from packetwalk.show import show

    room, name = table
    network: Any = trace.after
    now = max((hop.end for hop in trace.hops), default=0)
    if name == "conntrack":
        shown = "\n".join(c.text(now) for c in network[room].conns.all() if c.expires > now)
    elif name == "ipvs-conns":
        shown = "\n".join(network[room].ipvs.conns.listing(now))
    else:
        shown = show(network, room, name)
    return f"\n\n{room} {name}:\n{shown or '(nothing)'}"


def branches_text(branches: list[Branch], layout: str, colour: bool, table: tuple[str, str] | None) -> str:
    """Every branch under its probability."""
    if layout == "json":
        import json

        listed = [{"probability": b.probability, "trace": b.trace.to_dict()} for b in branches]
        return json.dumps({"branches": listed}, indent=1)
    if layout == "minimal":
        texts = [text_of(b.trace, layout, colour) + after_of(b.trace, table) for b in branches]
        return "\n".join(f"{b.probability:.4g}  {text}" for b, text in zip(branches, texts, strict=True))
    return "\n\n".join(
        f"branch {i} of {len(branches)}, probability {b.probability:.4g}\n"
        f"{text_of(b.trace, layout, colour)}{after_of(b.trace, table)}"
        for i, b in enumerate(branches, 1)
    )


def status_of(trace: Trace | Fetch) -> int:
    """The exit status a walk ends with."""
    if trace.delivered:
        return DELIVERED
    return UNSUPPORTED if trace.unsupported else NOT_DELIVERED  # without an answer nobody knows what it would have done
