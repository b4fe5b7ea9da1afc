"""What came of traffic: a Load, its numbers as rows, as a DataFrame, as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packetwalk.engine.stats import Death, FlowStats, Histogram, LinkStats, RoomStats
from packetwalk.trace import Reason, Trace

if TYPE_CHECKING:
    import pandas

    from packetwalk.engine.faults import Fault
    from packetwalk.network import End, Network

SECOND = 1_000_000_000
Row = dict[str, Any]
TABLES = ("flows", "hops", "rooms", "drops", "time")


@dataclass(slots=True, eq=False)
class Load:
    """A run of traffic: what each flow, wire and room saw. Times are ns, `until` when the sources stopped, `end` when
    the last thing happened. samples: the way of the first packet that died of each reason. after: the network as the
    run left it; note: which tables of its rooms nobody evaluates; unsupported: what is not modelled and was met, where.
    """

    network: str
    until: int
    end: int
    seed: int
    every: int
    flows: list[FlowStats]
    links: Mapping[End, LinkStats]
    rooms: Mapping[str, RoomStats]
    deaths: Mapping[Death, int]
    unsupported: Mapping[str, int]
    samples: Mapping[Reason, Trace]
    faults: tuple[Fault, ...]
    after: Network
    note: str = ""

    @property
    def sent(self) -> int:
        return sum(flow.sent for flow in self.flows)

    @property
    def delivered(self) -> int:
        return sum(flow.delivered for flow in self.flows)

    @property
    def lost(self) -> int:
        """Packets that did not arrive."""
        return sum(flow.lost for flow in self.flows)

    @property
    def drops(self) -> dict[Reason, int]:
        """How many packets of the flows died of what. A switch that floods makes copies, which may die, too."""
        total: Counter[Reason] = sum((flow.drops for flow in self.flows), Counter())
        return dict(total.most_common())

    @property
    def latency(self) -> Histogram:
        """One way, of all flows together."""
        whole = Histogram()
        for flow in self.flows:
            whole.merge(flow.latency)
        return whole

    def flow(self, name: str) -> FlowStats:
        """The flow of that name. KeyError if there is none."""
        for flow in self.flows:
            if flow.name == name:
                return flow
        raise KeyError(f"there is no flow {name!r}; there are {', '.join(f.name for f in self.flows)}")

    def rows(self, table: str = "flows") -> list[Row]:
        """One of the tables flows, hops (each direction of a wire), rooms, drops and time, as a list of dicts.

        Times in ns (`_ns`), rates in bit/s (`_bps`).
        """
        if table not in TABLES:
            raise ValueError(f"there is no table {table!r}, only {', '.join(TABLES)}")
        found: list[Row] = getattr(self, f"_{table}")()
        return found

    def to_frame(self, table: str = "flows") -> pandas.DataFrame:
        """The same as a pandas DataFrame. ImportError, with what to install, where there is no pandas."""
        try:
            import pandas
        except ImportError:
            raise ImportError("to_frame() needs pandas: pip install 'packetwalk[frame]'") from None
        return pandas.DataFrame(self.rows(table))

    def to_dict(self) -> Row:
        """Everything but the samples in dicts, lists, texts and numbers."""
        head = {"network": self.network, "seed": self.seed, "until_ns": self.until, "end_ns": self.end}
        faults = [{"at_ns": fault.at, "line": fault.line} for fault in self.faults]
        return {"version": 1, **head, "faults": faults, "note": self.note,
                "unsupported": dict(self.unsupported), **{t: self.rows(t) for t in TABLES}}  # fmt: skip

    def __str__(self) -> str:
        from packetwalk.view.load import summary

        return summary(self)

    # -- the tables ------------------------------------------------------------------------------------------------

    def _flows(self) -> list[Row]:
        reasons = list(self.drops)
        return [
            {"flow": f.name, "what": str(f.source), "sent": f.sent, "delivered": f.delivered, "lost": f.lost,
             "goodput_bps": _rate(f.goodput, self._lasted(f)), **_times(f.latency), "answers": f.answers,
             "rtt_p50_ns": f.rtt.percentile(50), "errors": f.errors, "again": f.again,
             **{reason.value: f.drops[reason] for reason in reasons}}
            for f in self.flows
        ]  # fmt: skip

    def _lasted(self, flow: FlowStats) -> int:
        """ns from the first packet on; a transfer of so many bytes is over when it has carried them."""
        stop = 0 if flow.source.total else flow.source.stop or self.until
        return max(stop, flow.last) - flow.source.start

    def _hops(self) -> list[Row]:
        rows = []
        for (room, dev), link in self.links.items():
            rate = self.after.wires[room, dev].rate
            bps = _rate(link.bytes, max(self.until, link.last))
            rows.append({"from": room, "dev": dev, "to": link.to[0], "to_dev": link.to[1], "frames": link.frames,
                         "drops": link.drops, "bytes": link.bytes, "bps": bps, "rate_bps": rate,
                         **_times(link.wait)})  # fmt: skip
        return rows

    def _rooms(self) -> list[Row]:
        return [
            {"room": name, "visits": r.visits, "drops": r.drops, "busy": r.busy / self.until}
            for name, r in self.rooms.items()
        ]

    def _drops(self) -> list[Row]:
        deaths = sorted(self.deaths.items(), key=lambda item: -item[1])
        return [{**death._asdict(), "reason": death.reason.value, "count": n} for death, n in deaths]

    def _time(self) -> list[Row]:
        rows = []
        for flow in self.flows:
            for part in range(max(flow.timeline, default=-1) + 1):
                sent, delivered, dropped, worst = flow.timeline.get(part, (0, 0, 0, 0))
                rows.append({"at_ns": part * self.every, "flow": flow.name, "sent": sent, "delivered": delivered,
                             "dropped": dropped, "max_ns": worst})  # fmt: skip
        return rows


def _times(times: Histogram) -> Row:
    shown = {f"p{p}_ns": times.percentile(p) for p in (50, 90, 99)}
    return {"mean_ns": times.mean, **shown, "max_ns": times.max}


def _rate(size: int, ns: int) -> int:
    return size * 8 * SECOND // ns if ns > 0 else 0
