"""Fields that are younger than the stages of users."""

from dataclasses import dataclass, field

from raydd.ops.configs import LATER, later, settled


@dataclass
class Old:
    steps: int = 3
    span: tuple[float, float] = (0.0, 1.0)


@dataclass
class Inner(Old):
    young: int = later(0)
    named: dict[str, int] = field(default_factory=dict, metadata=LATER)


@dataclass
class Outer:
    name: str = "x"
    inner: Inner = field(default_factory=Inner)
    several: list[Inner] = field(default_factory=lambda: [Inner(), Inner(young=2)])


def test_young_fields_at_their_default_are_left_out_at_every_depth():
    old = {"steps": 3, "span": [0.0, 1.0]}
    assert settled(Inner()) == settled(Old()) == old
    assert settled(Outer()) == {"name": "x", "inner": old, "several": [old, {**old, "young": 2}]}


def test_a_young_field_that_was_set_is_kept_and_one_set_to_its_default_is_not():
    assert settled(Inner(young=5, named={"a": 1})) == {
        "steps": 3, "span": [0.0, 1.0], "young": 5, "named": {"a": 1},
    }  # fmt: skip
    assert "young" not in settled(Inner(young=0))
