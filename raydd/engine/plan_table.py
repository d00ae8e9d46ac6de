"""A plan as lines of text."""

from collections.abc import Iterator, Sequence

from raydd.engine.plan_base import PlanRow


def plan_lines(rows: Sequence[PlanRow]) -> Iterator[str]:
    """A header and a line per stage."""
    width = 2 + max(len(row.stage) for row in rows)
    header = f"{'stage':<{width}}{'units':>8}{'reads':>12}{'writes':>12}{'memory/worker':>15}"
    rated = any(row.rate for row in rows)
    yield f"{header}{'steps/s here':>14}" if rated else header
    for row in rows:
        sizes = f"{_size(row.reads):>12}{_size(row.writes):>12}{_size(row.memory):>15}"
        rate = f"{row.rate:>14.3g}" if row.rate else ""
        yield f"{row.stage:<{width}}{row.units:>8}{sizes}{rate}"


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError
