"""A run as a picture: who was what when, what went wrong, and every message of a chosen moment.

Above, the whole run: a lane for each member, coloured by what it was doing, faults as marks, and the committed ops as a
curve. Below, a window of it as a space-time diagram: time runs to the right, a message is a line from sender to
receiver, and the mouse over anything says what it is. One HTML file, without scripts, that needs nothing else.
"""

from __future__ import annotations

from bisect import bisect_right
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

from veritydb.simulation.network import CLIENTS
from veritydb.simulation.scenario import SECOND
from veritydb.simulation.telling import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from veritydb.simulation.run import Result
    from veritydb.simulation.world import World

_WIDTH = 1360
_LEFT = 92
_RIGHT = 20
_MESSAGES = 150
"""About so many are drawn."""
_QUIET = 600
"""Microseconds that a time without events is drawn as, if it is longer."""
_STATES = {
    "primary": ("#1d4e89", "primary"),
    "normal": ("#9cc3e6", "backup"),
    "view_change": ("#f2a541", "view change"),
    "recovering_head": ("#d1495b", "does not know its log's end"),
    "paused": ("#b9b4c7", "paused"),
    "down": ("#e4e4e4", "down"),
}
_FAMILIES = {
    "Prepare": "order", "PrepareOk": "order", "Commit": "heartbeat", "CommitAck": "heartbeat", "Ping": "heartbeat",
    "Pong": "heartbeat", "ExitView": "view", "JoinView": "view", "StartView": "view", "GetView": "view",
    "NewEpoch": "view", "GetHeaders": "repair", "Headers": "repair", "GetPrepare": "repair", "Repair": "repair",
    "GetSnapshot": "repair", "SnapshotChunk": "repair",
}  # fmt: skip
_COLOURS = {
    "order": ("#2b6cb0", "Prepare, PrepareOk"),
    "view": ("#d1495b", "view change"),
    "repair": ("#6a994e", "repair, snapshot"),
    "client": ("#8d6a9f", "clients"),
    "heartbeat": ("#b8bec6", "heartbeats"),
}


class _Span(NamedTuple):
    member: int
    state: str
    since: int
    until: int
    view: int


class _Carried(NamedTuple):
    sent: int
    arrived: int
    src: int
    dst: int
    message: Any


class Recorder:
    """Keeps what the picture needs, while a run goes on."""

    def __init__(self) -> None:
        self.world: World | None = None
        self.spans: list[_Span] = []
        self.carried: list[_Carried] = []
        self.marks: list[tuple[int, int, str]] = []
        self.commits: list[tuple[int, int]] = [(0, 0)]
        self._now: dict[int, tuple[str, int, int]] = {}

    def tell(self, time: int, member: int, kind: str, what: Any) -> None:
        """Something has happened at a member."""
        world = self.world
        assert world is not None
        if kind not in ("event", "effect"):
            text = f"{kind} {what}".strip()
            self.marks.append((time, member, text))
        node = world.nodes[member]
        replica = node.replica
        if kind == "crashed" or replica is None:
            state, view = "down", 0
        else:
            state, view = replica.status.name.lower(), replica.view
            if state == "normal" and replica.is_primary:
                state = "primary"
            if node.inbox is not None:
                state = "paused"
            if replica.commit_max > self.commits[-1][1]:
                self.commits.append((time, replica.commit_max))
        before = self._now.get(member)
        if before is None or before[0] != state or before[2] != view:
            if before is not None:
                self.spans.append(_Span(member, before[0], before[1], time, before[2]))
            self._now[member] = (state, time, view)

    def carry(self, sent: int, arrived: int, src: int, dst: int, message: Any) -> None:
        """A message has arrived."""
        self.carried.append(_Carried(sent, arrived, src, dst, message))

    def finish(self, time: int) -> None:
        """The run is over."""
        self.carried.sort(key=lambda item: item.sent)
        for member, (state, since, view) in sorted(self._now.items()):
            self.spans.append(_Span(member, state, since, time, view))


def page(recorder: Recorder, result: Result) -> str:
    """Return the picture as an HTML page."""
    recorder.finish(result.virtual)
    start, end = _choose_window(recorder, result)
    verdict = "held" if result.failure is None else str(result.failure)
    colour = "#2d6a4f" if result.failure is None else "#b00020"
    kinds = ", ".join(f"{kind} {count}" for kind, count in result.kinds.items())
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>VerityDB simulation, seed {result.seed}</title>
<style>
body {{ font: 14px/1.45 system-ui, sans-serif; color: #1f2933; margin: 24px auto; max-width: {_WIDTH}px; }}
h1 {{ font-size: 20px; margin: 0 0 4px; }} h2 {{ font-size: 15px; margin: 22px 0 6px; }}
.verdict {{ color: {colour}; font-weight: 600; }} .dim {{ color: #6b7780; }}
svg {{ display: block; background: #fff; }} text {{ font: 12px system-ui, sans-serif; fill: #3e4c59; }}
.key {{ display: inline-block; margin-right: 16px; }} .key i {{ display: inline-block; width: 12px; height: 12px;
border-radius: 2px; margin-right: 5px; vertical-align: -1px; }}
ol {{ columns: 2; padding-left: 24px; }} li {{ font: 12px ui-monospace, monospace; break-inside: avoid; }}
</style>
<h1>Seed {result.seed}</h1>
<p><span class="verdict">{escape(verdict)}</span><br>
<span class="dim">{result.ops} ops committed, {result.answers} answers, {result.steps:,} steps,
{result.virtual / SECOND:.1f} s of virtual time, trace {result.trace}<br>{escape(kinds)}</span></p>
<h2>The whole run</h2>
{_overview(recorder, result, start, end)}
<p>{"".join(_key(colour, name) for colour, name in _STATES.values())}</p>
<h2>{start / SECOND:.3f} s to {end / SECOND:.3f} s</h2>
{_detail(recorder, start, end)}
<p>{"".join(_key(colour, name) for colour, name in _COLOURS.values())}</p>
<h2>What went wrong on purpose</h2>
<ol>{"".join(f"<li>{escape(_mark_text(mark))}</li>" for mark in recorder.marks[:160])}</ol>
</html>
"""


def _mark_text(mark: tuple[int, int, str]) -> str:
    time, member, text = mark
    return text[6:] if text.startswith("fault ") else f"{time / SECOND:8.3f} s member {member} {text}"


def _key(colour: str, name: str) -> str:
    return f'<span class="key"><i style="background:{colour}"></i>{name}</span>'


class _Scale:
    """From time to x. With ``events``, a time in which nothing happens takes little room, however long it was."""

    def __init__(self, start: int, end: int, events: Sequence[int] = ()) -> None:
        self._times = [start]
        self._at = [0.0]
        for time in sorted({time for time in events if start < time < end} | {end}):
            gap = time - self._times[-1]
            self._at.append(self._at[-1] + (min(gap, _QUIET + gap // 100) if events else gap))
            self._times.append(time)
        self._factor = (_WIDTH - _LEFT - _RIGHT) / max(1.0, self._at[-1])

    def __call__(self, time: int) -> float:
        """Return where ``time`` is."""
        times, at = self._times, self._at
        right = min(max(1, bisect_right(times, time)), len(times) - 1)
        before, after = times[right - 1], times[right]
        share = min(1.0, max(0.0, (time - before) / max(1, after - before)))
        return _LEFT + self._factor * (at[right - 1] + share * (at[right] - at[right - 1]))


def _choose_window(recorder: Recorder, result: Result) -> tuple[int, int]:
    """Return the moment to look at: before the failure, or around the middle one of the view changes."""
    sent = [item.sent for item in recorder.carried] or [0]
    if result.failure is not None and not result.failure.rule.startswith("a healthy core"):
        last = bisect_right(sent, result.failure.at)
    else:
        changes = [span.since for span in recorder.spans if span.state == "view_change" and span.since > 0]
        middle = changes[len(changes) // 2] if changes else sent[len(sent) // 2]
        last = min(len(sent), bisect_right(sent, middle) + _MESSAGES * 2 // 3)
    first = max(0, last - _MESSAGES)
    end = result.failure.at + 2_000 if result.failure is not None and last == len(sent) else sent[last - 1]
    return sent[first], max(end, sent[first] + 1)


def _overview(recorder: Recorder, result: Result, start: int, end: int) -> str:
    members = sorted({span.member for span in recorder.spans})
    last = max(1, result.virtual)
    x = _Scale(0, last)
    top, lane, curve = 70, 26, 52
    height = top + lane * len(members) + 34
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img">']
    most = max(1, recorder.commits[-1][1])
    points = " ".join(f"{x(time):.1f},{curve + 6 - curve * op / most:.1f}" for time, op in recorder.commits)
    parts.append(f'<text x="4" y="20">{most} ops</text>')
    parts.append(
        f'<polyline points="{points} {_WIDTH - _RIGHT},{curve + 6 - curve:.1f}" fill="none" stroke="#2d6a4f" '
        'stroke-width="1.6"/>'
    )
    parts.append(
        f'<rect x="{x(start):.1f}" y="2" width="{max(2.0, x(end) - x(start)):.1f}" '
        f'height="{height - 26}" fill="#ffe8a3" opacity="0.45"/>'
    )
    for row, member in enumerate(members):
        y = top + row * lane
        parts.append(f'<text x="4" y="{y + 13}">member {member}</text>')
        for span in recorder.spans:
            if span.member == member:
                parts.append(_bar(span, y, x, 0, last))
    for time, member, text in recorder.marks:
        if text.startswith("fault ") and member in members:
            y = top + members.index(member) * lane - 4
            parts.append(
                f'<path d="M{x(time):.1f} {y}l-3.5 -6h7z" fill="#b00020"><title>{escape(text[6:])}</title></path>'
            )
    parts.extend(_axis(height - 18, x, 0, last))
    parts.append("</svg>")
    return "".join(parts)


def _bar(span: _Span, y: float, scale: _Scale, start: int, end: int) -> str:
    begin, stop = max(span.since, start), min(span.until, end)
    if stop <= begin:
        return ""
    x = scale(begin)
    width = max(0.7, scale(stop) - x)
    colour, name = _STATES[span.state]
    title = f"member {span.member}: {name}, view {span.view}, {span.since / SECOND:.3f} to {span.until / SECOND:.3f} s"
    place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="16"'
    return f'<rect {place} fill="{colour}"><title>{escape(title)}</title></rect>'


def _axis(y: float, scale: _Scale, start: int, end: int) -> Iterator[str]:
    yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#cbd2d9"/>'
    steps = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, SECOND // 2, SECOND, 2 * SECOND, 5 * SECOND)
    step = next((step for step in steps if (end - start) / step <= 60), 10 * SECOND)
    digits = 3 if step < 10_000 else 2 if step < SECOND // 2 else 1
    last = 0.0
    for time in range((start + step - 1) // step * step, end + 1, step):
        x = scale(time)
        if x - last < 78:
            continue
        last = x
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}" stroke="#9aa5b1"/>'
        yield f'<text x="{x:.1f}" y="{y + 16}" text-anchor="middle">{time / SECOND:.{digits}f} s</text>'


def _detail(recorder: Recorder, start: int, end: int) -> str:
    members = sorted({span.member for span in recorder.spans})
    lanes = [*members, CLIENTS]
    gap = 104
    shown = [item for item in recorder.carried if item.arrived >= start and item.sent <= end]
    moments = [time for item in shown for time in (item.sent, item.arrived)]
    moments += [time for time, _, _ in recorder.marks]
    x = _Scale(start, end, moments)
    height = 30 + gap * (len(lanes) - 1) + 62
    ys = {member: 30 + row * gap for row, member in enumerate(lanes)}
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" width="100%" role="img">']
    for member in lanes:
        name = "clients" if member == CLIENTS else f"member {member}"
        parts.append(f'<text x="4" y="{ys[member] + 4}">{name}</text>')
    lines: dict[str, list[str]] = {family: [] for family in _COLOURS}
    for item in shown:
        family = "client" if CLIENTS in (item.src, item.dst) else _FAMILIES.get(type(item.message).__name__, "repair")
        lines[family].append(_line(item, ys, x, start, end, family))
    for family in ("heartbeat", "client", "order", "repair", "view"):
        parts.extend(lines[family])
    for span in recorder.spans:
        parts.append(_bar(span, ys[span.member] - 8, x, start, end))
    y = ys[CLIENTS]
    parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#8d6a9f" stroke-width="3"/>')
    for time, member, text in recorder.marks:
        if start <= time <= end:
            colour = "#b00020" if text.startswith("fault") else "#1f2933"
            label = escape(text[6:] if text.startswith("fault ") else text)
            parts.append(
                f'<path d="M{x(time):.1f} {ys[member] - 10}l-4.5 -8h9z" fill="{colour}"><title>{label}</title></path>'
            )
    parts.extend(_axis(height - 30, x, start, end))
    parts.append("</svg>")
    return "".join(parts)


def _line(item: _Carried, ys: dict[int, int], scale: _Scale, start: int, end: int, family: str) -> str:
    x1, x2 = scale(max(item.sent, start)), scale(min(item.arrived, end))
    y1, y2 = float(ys[item.src]), float(ys[item.dst])
    # What was sent before the window, or arrives after it, is cut at its edge.
    whole, drop = max(1, item.arrived - item.sent), y2 - y1
    if item.arrived > end:
        y2 = y1 + drop * (end - item.sent) / whole
    if item.sent < start:
        y1 += drop * (start - item.sent) / whole
    colour, _ = _COLOURS[family]
    width = 0.7 if family == "heartbeat" else 1.3
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.0f}" x2="{x2:.1f}" y2="{y2:.0f}" stroke="{colour}" stroke-width="{width}" '
        f'opacity="0.85"><title>{escape(say(item.message))} ({item.src} to {item.dst})</title></line>'
    )
