"""The matches that remember or draw: statistic, recent, limit. They are asked in the kernel's own order.

What they remember lies in `Seen.state`, each value replaced and never changed, so that a walk's overlay is its own.
Each test follows the kernel function it names (net/netfilter/xt_*.c); options print as iptables-save prints them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from packetwalk.addr import IPv4
from packetwalk.netns.match import FIXED, Condition, Match, MatchKind, test
from packetwalk.netns.option import FLAG, Option, OptionKind, number, numeric, one_of, quote_word
from packetwalk.netns.seen import Seen

if TYPE_CHECKING:
    from packetwalk.netns.rule import Rule

SECOND = 1_000_000_000

# -- statistic (xt_statistic.c) ----------------------------------------------------------------------------------------


def _probability(text: str) -> tuple[str]:
    """The kernel keeps 31 bits of it; iptables-save prints 11 digits."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ValueError(f"a number of 0 to 1 was expected, not {text!r}")
    return (f"{round(value * 2**31) / 2**31:.11f}",)


STATISTIC = {
    "--mode": OptionKind(1, lambda text: (one_of(("random", "nth"), text),)),
    "--probability": OptionKind(1, _probability, True),
    "--every": OptionKind(1, lambda text: (str(number(text, 1)),), True),
    "--packet": numeric(),
}


def _statistic_finish(options: dict[str, Option]) -> None:
    mode = options["--mode"].text if "--mode" in options else ""
    wanted = {"random": "--probability", "nth": "--every"}.get(mode, "--mode")
    if wanted not in options:
        raise ValueError(f"{wanted} was expected")
    if mode == "nth":
        options.setdefault("--packet", Option("--packet", ("0",)))


def _statistic(match: Match, rule: Rule) -> Condition:
    """statistic_mt (net/netfilter/xt_statistic.c)."""
    if match.text("--mode") == "random":
        option = match.get("--probability")
        assert option is not None
        probability, inverted = float(option.text), option.inverted
        return Condition(FIXED, test(lambda s: s.choose.statistic(rule, probability, s) is not inverted))
    every = match.get("--every")
    assert every is not None
    number_of, packet = int(every.text), int(match.text("--packet"))
    memory = object()

    def nth(s: Seen) -> bool:
        seen = s.state.get(memory, 0)
        assert isinstance(seen, int)
        s.state[memory] = (seen + 1) % number_of
        return (seen == packet) is not every.inverted

    return Condition(FIXED, test(nth))


# -- recent (xt_recent.c) ----------------------------------------------------------------------------------------------

WAYS = ("--set", "--rcheck", "--update", "--remove")
RECENT = {
    **{way: OptionKind(0, invertible=True) for way in WAYS},
    "--seconds": OptionKind(1, lambda text: (str(number(text, 1)),)),
    "--reap": FLAG,
    "--hitcount": OptionKind(1, lambda text: (str(number(text, 1, 255)),)),
    "--rttl": FLAG,
    "--name": OptionKind(1, lambda name: (quote_word(name),)),
    "--mask": OptionKind(1, lambda text: (str(IPv4(text)),)),
    "--rsource": FLAG,
    "--rdest": FLAG,
}
LIST_TOTAL = 100  # module parameter ip_list_tot: addresses a list remembers
STAMPS = 256  # XT_RECENT_MAX_NSTAMPS: times an address remembers


def _recent_finish(options: dict[str, Option]) -> None:
    ways = [way for way in WAYS if way in options]
    if len(ways) != 1:
        raise ValueError(f"one of {', '.join(WAYS)} was expected")
    if "--reap" in options and "--seconds" not in options:
        raise ValueError("--reap: --seconds was expected beside it")
    options.setdefault("--name", Option("--name", ("DEFAULT",)))
    options.setdefault("--mask", Option("--mask", ("255.255.255.255",)))
    if "--rdest" not in options:
        options["--rsource"] = Option("--rsource")


class Recent(NamedTuple):
    """An address that a list remembers: the TTL it came with and when, the latest last (ns)."""

    ttl: int
    stamps: tuple[int, ...]


RecentList = dict[int, Recent]
"""The addresses of a list, the one seen longest ago first."""


def _recent(match: Match, rule: Rule) -> Condition:
    """recent_mt."""
    way = next(option for option in match.options if option.name in WAYS)
    memory = ("recent", match.text("--name"))
    mask, source = int(IPv4(match.text("--mask"))), match.has("--rsource")
    seconds, hits = int(match.text("--seconds", "0")), int(match.text("--hitcount", "1"))
    reap, rttl = match.has("--reap"), match.has("--rttl")

    def check(s: Seen) -> bool:
        remembered = s.state.get(memory, {})
        assert isinstance(remembered, dict)
        entries: RecentList = dict(remembered)
        addr = (s.src if source else s.dst) & mask
        ttl = s.ip.ttl + (1 if s.oif and s.iif else 0)  # as it was before forwarding
        entry = entries.get(addr)
        if entry is not None and rttl and entry.ttl not in (0, ttl):
            entry = None
        found = entry is not None
        if entry is not None and way.name in ("--rcheck", "--update"):
            since = s.now - seconds * SECOND if seconds else None
            found = sum(since is None or stamp >= since for stamp in entry.stamps) >= hits
            if reap and since is not None:
                _reap(entries, since, addr if way.name == "--update" and found is not way.inverted else -1)
        if way.name == "--set" or (way.name == "--update" and found is not way.inverted and entry is not None):
            _remember(entries, addr, ttl, s.now, entry)
        if way.name == "--remove" and entry is not None:
            del entries[addr]
        s.state[memory] = entries
        return (found or way.name == "--set") is not way.inverted

    return Condition(FIXED, test(check))


def _reap(entries: RecentList, since: int, spared: int) -> None:
    """recent_entry_reap: forget the address seen longest ago, if that was too long ago."""
    oldest = next(iter(entries))
    if oldest != spared and entries[oldest].stamps[-1] < since:
        del entries[oldest]


def _remember(entries: RecentList, addr: int, ttl: int, now: int, entry: Recent | None) -> None:
    """recent_entry_init, recent_entry_update: the address goes to the end of the list."""
    if entry is None and len(entries) >= LIST_TOTAL:
        del entries[next(iter(entries))]
    entries.pop(addr, None)
    entries[addr] = Recent(ttl, ((*entry.stamps, now) if entry is not None else (now,))[-STAMPS:])


# -- limit (xt_limit.c) ------------------------------------------------------------------------------------------------

SCALE = 10_000  # XT_LIMIT_SCALE: a rate is kept as ten-thousandths of a second between two packets
UNITS = {"day": 86400, "hour": 3600, "min": 60, "sec": 1}
WORDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def _interval(text: str) -> int:
    """Ten-thousandths of a second between two packets of `5/sec`, `10/minute`, `3/h`."""
    rate, _, unit = text.partition("/")
    seconds = next((s for word, s in WORDS.items() if word.startswith(unit.lower())), 0)  # none given: per second
    interval = SCALE * seconds // number(rate, 1)
    if not interval:
        raise ValueError(f"a rate like 5/sec, 10/min, 3/hour or 1/day was expected, not {text!r}")
    return interval


def _rate(text: str) -> tuple[str]:
    """A rate in the largest unit that says it exactly enough (print_rate, libxt_limit.c)."""
    interval = _interval(text)
    unit = "day"
    for name in ("hour", "min", "sec"):
        whole = UNITS[name] * SCALE
        if interval > whole or whole // interval < whole % interval:
            break
        unit = name
    return (f"{UNITS[unit] * SCALE // interval}/{unit}",)


def _limit_finish(options: dict[str, Option]) -> None:
    options.setdefault("--limit", Option("--limit", ("3/hour",)))
    if "--limit-burst" in options and options["--limit-burst"].text == "5":
        del options["--limit-burst"]


class Bucket(NamedTuple):
    """What a limit has left, in ns, and as of when."""

    credit: int
    since: int


def _limit(match: Match, rule: Rule) -> Condition:
    """limit_mt: a bucket of `burst` packets that fills up again by one each interval."""
    cost = _interval(match.text("--limit")) * (SECOND // SCALE)
    cap = cost * int(match.text("--limit-burst", "5"))
    memory = object()

    def check(s: Seen) -> bool:
        bucket = s.state.get(memory, Bucket(cap, s.now))
        assert isinstance(bucket, Bucket)
        credit = min(bucket.credit + s.now - bucket.since, cap)
        matches = credit >= cost
        s.state[memory] = Bucket(credit - cost if matches else credit, s.now)
        return matches

    return Condition(FIXED, test(check))


MATCHES: dict[str, MatchKind] = {
    "limit": MatchKind(
        {"--limit": OptionKind(1, _rate), "--limit-burst": OptionKind(1, lambda text: (str(number(text, 1, 10000)),))},
        _limit,
        _limit_finish,
    ),
    "recent": MatchKind(RECENT, _recent, _recent_finish),
    "statistic": MatchKind(STATISTIC, _statistic, _statistic_finish),
}
"""By name: what follows `-m`."""
