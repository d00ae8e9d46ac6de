"""A plan as lines of text."""

from collections.abc import Iterator, Sequence

from raydd.plan.work import Machine, PlanRow, plan_hours


def plan_lines(rows: Sequence[PlanRow], machines: Sequence[Machine] = ()) -> Iterator[str]:
    """A header, a line per stage and their sum, then where the hours come from."""
    width = 2 + max(len(row.stage) for row in rows)
    header = f"{'stage':<{width}}{'units':>8}{'reads':>12}{'writes':>12}{'memory/worker':>15}"
    hours = [plan_hours(rows, machine) for machine in machines]
    yield header + "".join(f"{f'h {machine.name}':>12}" for machine in machines)
    for number, row in enumerate(rows):
        sizes = f"{_size(row.reads):>12}{_size(row.writes):>12}{_size(row.memory):>15}"
        yield f"{row.stage:<{width}}{row.units:>8}{sizes}{_hours([h[number] for h in hours])}"
    if machines:
        yield f"{'all stages':<{width}}{'':>47}{_hours([sum(column) for column in hours])}"
    for machine in machines:
        yield f"h {machine.name}: {machine.about}."
        if machine.memory and (large := [row for row in rows if row.memory > machine.memory]):
            names = ", ".join(row.stage for row in large)
            yield f"more than a device of {machine.name} holds, were there one worker: {names}."


def _hours(values: Sequence[float]) -> str:
    return "".join(f"{value:>12.3f}" if value < 100 else f"{value:>12.0f}" for value in values)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
