"""The commands that ask a real kernel, or read what one has answered: prove, record, agree.

Exit status: 0 the kernel agrees, 1 it does not, 2 bad input, 3 something this machine has not, by name.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from packetwalk.cli.fetch import check_url, is_url
from packetwalk.cli.options import (
    BadInput,
    ColdOption,
    DfOption,
    Dst,
    FileOption,
    IcmpOption,
    ModeOption,
    NodesOption,
    RacksOption,
    SctpOption,
    SetOption,
    SizeOption,
    Snapshot,
    Src,
    TcpOption,
    TtlOption,
    UdpOption,
    emit,
    known,
    load_network,
    make_flow,
    snapshot_folder,
)  # fmt: skip

if TYPE_CHECKING:
    from packetwalk.judge import Verdict
    from packetwalk.network import Network
    from packetwalk.prove import Proof
    from packetwalk.trace import Flow

AGREES, DIVERGES, MISSING = 0, 1, 3
FORMATS = ("text", "json")
Output = Annotated[str, typer.Option("--output", "-o", metavar="FORMAT", help="text|json.")]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long a client waits, to 60.")]


class Missing(Exception):
    """This machine cannot do what was asked; the text is one line for a person."""


def prove(
    src: Src,
    dst: Dst,
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
    icmp: IcmpOption = False,
    udp: UdpOption = None,
    tcp: TcpOption = None,
    sctp: SctpOption = None,
    size: SizeOption = None,
    ttl: TtlOption = None,
    df: DfOption = None,
    cold: ColdOption = False,
    timeout: Timeout = 1.0,
    full: Annotated[bool, typer.Option("--full", help="Every step of the walk first.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Under every mode of `packetwalk modes`: a table.")] = False,
    output: Output = "text",
) -> None:
    """Build the network in this machine's kernel, send the packet, compare every frame with the walk.

    Of a URL: what the client came to know. Linux and root only. Nothing of it stays behind.

    \b
    Examples:
      packetwalk prove a b
      packetwalk prove a b --all
      packetwalk prove a http://web
      packetwalk prove n1-a n2-b --snapshot recordings/S3-flannel-vxlan --tcp 8080 --cold

    Exit status: 0 the kernel agrees, 1 it does not, 2 bad input, 3 something this machine has not, by name.
    """
    known(output, FORMATS, "output format")
    _seconds(timeout)
    if is_url(dst, None):
        unfit = {"icmp": icmp, "udp": udp, "tcp": tcp, "sctp": sctp, "size": size, "ttl": ttl, "df": df, "all": every}
        network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets, dns=True)
        raise typer.Exit(_prove_url(network, src, dst, unfit, cold=cold, files=snapshot, full=full, output=output))

    def proven(cni: str | None) -> tuple[Network, Flow, Proof]:
        network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
        flow = make_flow(network, src, dst, icmp=icmp, udp=udp, tcp=tcp, sctp=sctp, size=size, ttl=ttl, df=df)
        with _real_kernel():
            from packetwalk.prove import prove as compare

            return network, flow, compare(network, flow, cold=cold, timeout=timeout, files=snapshot)

    if every:
        raise typer.Exit(_prove_all(lambda mode: proven(mode)[2], output, given=cni or snapshot))
    network, flow, proof = proven(cni)
    emit(json.dumps(proof.to_dict(), indent=1) if output == "json" else _told(network, flow, proof, cold, full))
    raise typer.Exit(AGREES if proof.verdict.agrees else DIVERGES)


def _told(network: Network, flow: Flow, proof: Proof, cold: bool, full: bool) -> str:
    """The walk, and what the kernel did."""
    from packetwalk.engine.walk import walk

    trace = walk(network, flow, cold=cold)
    return f"{trace.full() if full else trace.minimal()}\n{proof}"


def record(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, new or empty.")],
    snapshot: Snapshot = None,
    file: FileOption = None,
    cni: ModeOption = None,
    nodes: NodesOption = 2,
    racks: RacksOption = 1,
    sets: SetOption = None,
    probe: Annotated[
        list[str] | None,
        typer.Option(metavar="'SRC DST ...'", help="What to send, in the words of `walk`. May be repeated."),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="RECORDING", help="Send what another recording's probes sent.")
    ] = None,
    timeout: Timeout = 0.6,
) -> None:
    """Build the network in this machine's kernel, send probes, write down what it did as a recording.

    \b
    Examples:
      packetwalk record my-recording --probe 'a b' --probe 'a b --tcp 8080' --probe 'a out --size 4000'
      packetwalk record again --snapshot recordings/G302 --like recordings/G302

    Exit status: 0 written, 2 bad input, 3 something this machine has not, by name.
    """
    _seconds(timeout)
    network = load_network(snapshot, file=file, cni=cni, nodes=nodes, racks=racks, sets=sets)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder} is there already; a new or an empty folder was expected")
    with _real_kernel():
        from packetwalk.kernel.probe import spec_of
        from packetwalk.kernel.record import record as write

        probes: list[dict[str, Any]] = list(_probes_of(like)) if like is not None else []
        for words in probe or ():
            flow = make_flow(network, **_walk_options(ctx, words))
            probes.append({"spec": spec_of(flow, timeout)})
        if not probes:
            raise BadInput("nothing to send: give --probe 'SRC DST ...' or --like RECORDING")
        recording = write(network, probes, folder, files=snapshot)
    emit("\n".join(f"{p['name']}: {p['result']['outcome']}, {len(p['frames'])} frames" for p in recording["probes"]))


def agree(
    recordings: Annotated[list[Path], typer.Argument(metavar="RECORDING...", help="Folders with recording.json.")],
    probe: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only probes of that name. May be repeated.")
    ] = None,
    data: Annotated[bool, typer.Option("--data", help="Also TCP with data: offload shapes its frames.")] = False,
    output: Output = "text",
) -> None:
    """Predict recorded probes and judge every frame against what the kernel did. Needs no kernel.

    \b
    Examples:
      packetwalk agree ../shared/recordings/G*
      packetwalk agree my-recording -o json

    Exit status: 0 every probe agrees, 1 one does not, 2 bad input.
    """
    from packetwalk.judge import judge_recording
    from packetwalk.predict import predict
    from packetwalk.snapshot import SnapshotError

    known(output, FORMATS, "output format")
    judged: dict[str, list[Verdict]] = {}
    for folder in recordings:
        snapshot_folder(folder)
        try:
            verdicts = judge_recording(folder, predict(folder)["probes"], data=data)
        except SnapshotError as error:
            raise BadInput(str(error)) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{folder}: not a recording with answers: {error!r}") from None
        judged[folder.resolve().name] = [v for v in verdicts if not probe or v.probe in probe]
    everything = [v for verdicts in judged.values() for v in verdicts]
    total = {
        "probes": len(everything), "agree": sum(v.agrees for v in everything),
        "frames": sum(v.total for v in everything), "same": sum(v.same for v in everything),
    }  # fmt: skip
    if output == "json":
        told = [{"name": name, "probes": [v.to_dict() for v in vs]} for name, vs in judged.items()]
        emit(json.dumps({**total, "recordings": told}, indent=1))
    else:
        emit("\n".join(_table(judged)))
        emit("{agree} of {probes} probes agree; {same} of {frames} frames".format(**total))
    raise typer.Exit(AGREES if total["agree"] == total["probes"] else DIVERGES)


def _prove_url(network: Network, src: str, url: str, unfit: Mapping[str, object], *, cold: bool, files: Path | None,
               full: bool, output: str) -> int:  # fmt: skip
    """The look-ups and the request of a URL through the kernel; the exit status."""
    check_url(network, src, url, unfit)
    with _real_kernel():
        from packetwalk.prove_url import prove_url

        proof = prove_url(network, src, url, cold=cold, files=files)
    shown = proof.walk.full() if full else proof.walk.minimal()
    emit(json.dumps(proof.to_dict(), indent=1) if output == "json" else f"{shown}\n{proof}")
    return AGREES if proof.agrees else DIVERGES


def _prove_all(proven: Callable[[str], Proof], output: str, *, given: object) -> int:
    """A line for each CNI mode, and the exit status: what this machine cannot build counts neither way."""
    from packetwalk.cni import modes

    if given is not None:
        raise BadInput("--all takes every CNI in turn; --cni and --snapshot name one network")
    told: dict[str, dict[str, Any]] = {}
    agrees = []
    width = max(map(len, modes()))
    for mode in modes():
        try:
            proof = proven(mode)
        except Missing as reason:
            told[mode], line = {"missing": str(reason)}, str(reason)
        else:
            told[mode], line = proof.to_dict(), str(proof)
            agrees.append(proof.verdict.agrees)
        if output == "text":
            emit(f"{mode:{width}}  {line}")
    if output == "json":
        emit(json.dumps(told, indent=1))
    return MISSING if not agrees else AGREES if all(agrees) else DIVERGES


def _table(judged: dict[str, list[Verdict]]) -> Iterator[str]:
    from packetwalk.judge import line

    width = max(map(len, judged), default=0)
    for name, verdicts in judged.items():
        agree, same, total = (sum(getattr(v, key) for v in verdicts) for key in ("agrees", "same", "total"))
        yield f"{name:{width}}  {agree:3} of {len(verdicts):3} probes  {same:5} of {total:5} frames"
        for v in verdicts:
            if not v.agrees:
                d = v.differences[0]
                yield f"    {v.probe}: {d}"
                if d.kernel is not None or d.predicted is not None:
                    yield f"        kernel     {line(d.kernel)}"
                    yield f"        predicted  {line(d.predicted)}"


# -- what was asked ------------------------------------------------------------------------------------------------


@contextmanager
def _real_kernel() -> Iterator[None]:
    """What this machine has not becomes Missing."""
    try:
        from packetwalk.kernel.capture import CaptureLost
        from packetwalk.kernel.doors import Refused
        from packetwalk.kernel.realise import MissingFeature
    except ImportError as error:  # fcntl and others are on Linux only
        raise Missing(f"a real kernel needs Linux ({error})") from None
    try:
        yield
    except (MissingFeature, Refused, CaptureLost) as error:
        raise Missing(str(error)) from None


def _seconds(timeout: float) -> None:
    if not 0.1 <= timeout <= 60:
        raise BadInput(f"--timeout {timeout:g} is out of range: 0.1 to 60 was expected")


def _walk_options(ctx: typer.Context, words: str) -> dict[str, Any]:
    """`a b --udp 53` as make_flow takes it: the words of `walk`, read by its own options."""
    wanted = ("src", "dst", "icmp", "udp", "tcp", "sctp", "size", "ttl", "df")
    parent = ctx.parent
    assert parent is not None
    walk = getattr(parent.command, "commands")["walk"]  # noqa: B009  (typer's own click hides the class)
    try:
        params = walk.make_context("--probe", shlex.split(words), parent=parent).params
    except ValueError as error:
        raise BadInput(f"--probe {words!r}: {error}") from None
    return {key: params[key] for key in wanted}


def _probes_of(recording: Path) -> Iterator[dict[str, Any]]:
    from packetwalk.snapshot import SnapshotError
    from packetwalk.snapshot.reader import read_json

    try:
        for probe in read_json(recording / "recording.json", dict)["probes"]:
            yield {"name": probe["name"], "spec": probe["spec"]}
    except SnapshotError as error:
        raise BadInput(str(error)) from None
    except (KeyError, TypeError) as error:
        raise BadInput(f"{recording / 'recording.json'}: not a recording: {error!r}") from None
