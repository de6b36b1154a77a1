"""The rows over gRPC: check workers against empty echoes, in closed and open loops."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Final, Self

from benchmarks.measure import Measurement, not_measured, singles
from benchmarks.service import rows_table
from benchmarks.service.clients import ClientChecks, Ends, Stub
from benchmarks.service.driver import StreamDriver, answer
from benchmarks.service.h2load import H2load, NotUsable
from benchmarks.service.load_spec import Call, Drive, Generator
from benchmarks.service.open_loop import OpenLoop
from benchmarks.service.processes import on_cores
from benchmarks.service.round import MOST_REFUSED, EndSeries, OpenSeries, Series, echo_call, service_call
from benchmarks.service.rows_table import READINGS, SPECS, Reading, Spec
from benchmarks.service.servers import Cores, Places, running_places
from benchmarks.stats import percentile

ROWS: Final = {reading.name: reading.floor for reading in READINGS.values()}
# Rounds, and about how long a drive takes in us: the short form and the full one.
QUICK = (7, 60_000.0)
FULL = (17, 250_000.0)


@dataclass(frozen=True)
class Generators:
    """The load generators of a run."""

    h2load: Generator
    streams: Generator
    stub: Generator
    client: Generator
    open_loop: OpenLoop

    @classmethod
    def prepare(cls, folder: Path, stack: ExitStack) -> Self:
        """Make them. Raises NotUsable."""
        return cls(
            H2load.prepare(folder),
            stack.enter_context(StreamDriver()),
            stack.enter_context(Stub()),
            stack.enter_context(ClientChecks()),
            OpenLoop.prepare(folder),
        )

    def of(self, spec: Spec) -> Generator:
        """Return the generator of a closed loop."""
        if spec.question == rows_table.STREAM:
            return self.streams
        return {rows_table.STUB: self.stub, rows_table.CLIENT: self.client}.get(spec.driver, self.h2load)


def measurements(folder: Path, *, quick: bool, only: str = "") -> Iterator[Measurement]:
    """Run the servers, drive them in rounds that alternate, and yield the rows whose names hold ``only``."""
    wanted = rows_table.wanted(only, quick=quick)
    if not wanted:
        return
    specs = rows_table.needed(wanted)
    rounds, us = QUICK if quick else FULL
    cores = Cores.of(os.sched_getaffinity(0))
    with ExitStack() as stack:
        stack.enter_context(on_cores(cores.generator))
        try:
            generators = Generators.prepare(folder, stack)
        except NotUsable as why:
            yield from (not_measured(reading.name, reading.floor, str(why)) for reading in wanted)
            return
        places = stack.enter_context(running_places(folder, {spec.place for spec in specs}, cores))
        series = _series(specs, places, generators, stack)
        for each in series.values():
            each.fit(us)
        for _ in range(rounds):
            for each in series.values():
                each.round()
        _check_answers_again(series)
    for reading in wanted:
        yield _measurement(reading, series, places.missing)


def _series(
    specs: Sequence[Spec], places: Places, generators: Generators, stack: ExitStack
) -> dict[str, Series]:
    """Make the series whose places are there; each question was answered as it should be before that."""
    probed: dict[str, Call] = {}
    made: dict[str, Series] = {}
    for spec in specs:
        if spec.place not in places.found:
            continue
        place = places.found[spec.place]
        if spec.place in rows_table.ECHOES:
            if spec.question not in probed:
                control = places.found[rows_table.CONTROL]
                probed[spec.question] = _probed(service_call(spec, control), spec)
            call = echo_call(probed[spec.question], place)
        else:
            call = _probed(service_call(spec, place), spec)
        generator = generators.of(spec)
        if spec.question == rows_table.END:
            ends = stack.enter_context(Ends(places.home))
            busy = made.get("service/overload") if spec.load == rows_table.OVERLOAD else None
            if busy is not None:
                busy = replace(busy, drives=[])
            made[spec.name] = EndSeries(spec, call, generator, ends=ends, busy=busy)
        elif spec.share:
            cold = places.cold_tokens() if spec.cold else None
            loop, peak = generators.open_loop, made[rows_table.PEAK]
            made[spec.name] = OpenSeries(spec, call, generator, loop=loop, peak=peak, cold=cold)
        else:
            made[spec.name] = Series(spec, call, generator)
    return made


def _probed(call: Call, spec: Spec) -> Call:
    """Return the call with the length of its answer. Raises WrongDecision."""
    return replace(call, answer_bytes=len(answer(call, streaming=spec.question == rows_table.STREAM)))


def _check_answers_again(series: dict[str, Series]) -> None:
    """Make each call once more. Raises WrongDecision, or RuntimeError for an answer of another length."""
    for each in series.values():
        if _probed(each.call, each.spec).answer_bytes != each.call.answer_bytes:
            raise RuntimeError(f"{each.spec.name}: the length of the answer changed while it was measured")


def _measurement(reading: Reading, series: dict[str, Series], missing: dict[str, str]) -> Measurement:
    floor = READINGS[reading.floor] if reading.floor else None
    for name in (reading.series, *([floor.series] if floor else [])):
        if name not in series:
            return not_measured(reading.name, reading.floor, missing[SPECS[name].place])
        each = series[name]
        if isinstance(each, OpenSeries) and each.refused > MOST_REFUSED:
            why = f"the server refused {each.refused:.0%} of {each.per_second:.0f} calls/s as too many"
            return not_measured(reading.name, reading.floor, why)
    ours = series[reading.series]
    word = "calls" if ours.spec.decisions == 1 else "decisions"
    measured = Measurement(
        name=reading.name,
        floor=reading.floor,
        rounds=_rounds(reading, ours),
        floor_rounds=_rounds(floor, series[floor.series]) if floor else (),
        unit=reading.figure.unit.replace("decisions", word),
        extra=_extra(ours, word),
    )
    if not reading.figure.timed:
        return measured
    return replace(measured, **singles([us for drive in ours.drives for us in drive.latencies_us]))


def _rounds(reading: Reading, series: Series) -> tuple[float, ...]:
    return tuple(reading.figure.of(drive, series.spec.decisions) for drive in series.drives)


def _extra(series: Series, word: str) -> dict[str, float | str]:
    cpu = _middle(rows_table.CPU, series, series.drives)
    if isinstance(series, OpenSeries):
        late = [us for drive in series.drives for us in drive.late_us]
        return {
            "calls/s": series.per_second,
            "refused": series.refused,
            "sent late p99 us": percentile(late, 0.99),
            "server CPU us": cpu,
        }
    extra: dict[str, float | str] = {}
    if isinstance(series, EndSeries) and series.busy is not None:
        extra["checks/s meanwhile"] = _middle(rows_table.RATE, series.busy, series.busy.drives)
    return {**extra, f"{word}/s": _middle(rows_table.RATE, series, series.drives), "server CPU us": cpu}


def _middle(figure: rows_table.Figure, series: Series, drives: Sequence[Drive]) -> float:
    return median([figure.of(drive, series.spec.decisions) for drive in drives])
