"""What a hostile set holds, and what a pass made of it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Ids by fate, as a source spells them (of a parquet row without its place,
    of an archive's member without its key).

    Attributes:
        good: ids that must be used.
        bad: id -> kind; must be rejected. A sample that loses its members has several.
        undetectable: id -> kind; a mutated image that still decodes: nobody can tell.
        made: kind -> mutated samples.
    """

    good: set[str] = field(default_factory=set)
    bad: dict[str, str] = field(default_factory=dict)
    undetectable: dict[str, str] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)

    def add(self, row_id: str, kind: str, decodes: bool = False) -> None:
        """Note a mutated sample."""
        self.made[kind] += 1
        (self.undetectable if decodes else self.bad)[row_id] = kind


@dataclass
class Account:
    """A pass against its ledger; the first four are empty after a right one.

    Attributes:
        lost: good ids that were not used.
        accepted: bad ids that were used.
        unreported: bad ids that are not among the rejected.
        strange: used or rejected ids that the ledger does not know, and ids met twice.
        rejected: kind -> rejected rows.
        used: kind -> mutated images that were used, all of them undetectable.
        reasons: kind -> reason without its names and numbers -> rows.
    """

    lost: set[str]
    accepted: set[str]
    unreported: set[str]
    strange: set[str]
    rejected: Counter[str]
    used: Counter[str]
    reasons: dict[str, Counter[str]]

    @property
    def is_right(self) -> bool:
        """Every good image was used and every bad one rejected, under one id each."""
        return not (self.lost or self.accepted or self.unreported or self.strange)


def account(ledger: Ledger, used: Iterable[str], rejected: Iterable[tuple[str, str]]) -> Account:
    """Compare a pass (ids used; ids rejected and why) with the ledger."""
    used_ids, rejected_rows = list(map(_plain, used)), [(_plain(i), why) for i, why in rejected]
    met = Counter([*used_ids, *(row_id for row_id, _ in rejected_rows)])
    kinds: Mapping[str, str] = {**ledger.bad, **ledger.undetectable}
    reasons: dict[str, Counter[str]] = {}
    for row_id, why in rejected_rows:
        kind = kinds.get(row_id, "good" if row_id in ledger.good else "unknown")
        reasons.setdefault(kind, Counter())[_without_names(why)] += 1
    return Account(
        lost=ledger.good - set(used_ids),
        accepted=set(used_ids) & ledger.bad.keys(),
        unreported=ledger.bad.keys() - {row_id for row_id, _ in rejected_rows},
        strange=_strange(met, {*kinds, *ledger.good}),
        rejected=Counter({kind: counts.total() for kind, counts in reasons.items()}),
        used=Counter(ledger.undetectable[i] for i in used_ids if i in ledger.undetectable),
        reasons=reasons,
    )


def _strange(met: Mapping[str, int], known: set[str]) -> set[str]:
    return {row_id for row_id, count in met.items() if count > 1 or row_id not in known}


def _plain(row_id: str) -> str:
    row_id = re.sub(r"(\.tar#[0-9]+\+[0-9]+):.*", r"\1", row_id, flags=re.DOTALL)
    return re.sub(r"(#[0-9]+)@[0-9]+\+[0-9]+$", r"\1", row_id)


def _without_names(reason: str) -> str:
    return re.sub(r"\d+", "N", re.sub(r"'.*'", "'..'", reason, flags=re.DOTALL))[:90]
