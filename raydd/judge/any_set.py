"""Judge a distilled set of anyone beside real images of the same size.

Random real images are drawn anew for every seed; images chosen by herding are the same for all.
All are trained on with one protocol, so that the difference is the images'.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from raydd.data.any_set import AnySet
from raydd.engine.engine import Engine
from raydd.engine.training.teacher import observe
from raydd.judge.bench import Bench, has_teacher, set_up
from raydd.judge.config import JudgeConfig
from raydd.judge.leak import check_leaks
from raydd.judge.protocol import ProtocolConfig, unit_name
from raydd.judge.robustness import measure_robustness
from raydd.ops.robust_scores import (
    augmentation_robust_score,
    hard_label_recovery,
    improvement_over_random,
    label_robust_score,
)
from raydd.store.artifacts import Artifact

Results = list[dict[str, Any]]


@dataclass
class Judgement:
    """Everything that was measured.

    Attributes:
        config: what was asked for.
        given: the set.
        images: the same, adopted.
        teacher: who gave soft labels or features; None where nobody was asked.
        real: table of the real images; its summary counts the broken ones.
        protocol: with the epochs that it came to, all architectures and the headline's labels.
        results: one dict per training, as in :func:`raydd.judge.protocol.Judging`, and
            ``labels``; the first is one of the headline.
        label_source: of the set's soft labels: "own", "own teacher" or "configured teacher"; None
            where none were used.
        robustness: how many test ``images`` were disturbed, and of each of the headline's
            ``networks``: images, seed, clean, noise, pgd. None where nobody asked, as below.
        scores: LRS, ARS and what they are made of.
        leak: the nearest real images of the distilled ones.
    """

    config: JudgeConfig
    given: AnySet
    images: Artifact
    teacher: Artifact | None
    real: Artifact
    protocol: ProtocolConfig
    results: Results
    label_source: str | None
    robustness: dict[str, Any] | None = None
    scores: dict[str, Any] | None = None
    leak: Artifact | None = None


def judge_set(
    engine: Engine, given: AnySet, images: Artifact, protocol: ProtocolConfig, config: JudgeConfig
) -> Judgement:
    """Measure what the configuration asks for.

    Args:
        engine: of the real data set; the set's own teacher is asked where it has one.
        given: the set.
        images: the same, adopted.
        protocol: how networks are trained; its labels hold where ``config.labels`` is empty.
        config: what is measured.
    """
    kinds = config.labels or [protocol.labels]
    protocol = _whole_protocol(protocol, images, config, kinds[0])
    herding = config.herd if config.herding else None
    bench = set_up(engine, given, images, protocol, herding, "soft" in kinds)
    pairs = [(kind, name) for kind in kinds for name in bench.sets]
    artifacts = bench.train([bench.ask(kind, name) for kind, name in pairs])
    trained = dict(zip(pairs, artifacts, strict=True))
    results = [
        {**result, "images": name, "labels": kind}
        for (kind, name), artifact in trained.items()
        for result in artifact.summary["results"]
    ]
    source = _label_source(bench) if "soft" in kinds else None
    found = Judgement(config, given, images, bench.teacher, bench.real, protocol, results, source)
    if config.robustness:
        found.robustness = _robustness(bench.engine, trained, found, config)
    if config.scores:
        found.scores = _scores(bench, results, config)
    if config.leak:
        found.leak = check_leaks(bench.engine, [images], config.nearest, "nearest real images")
    return found


def of_headline(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The trainings of the first architecture with the first kind of labels."""
    first = [results[0][name] for name in ("architecture", "labels")]
    return [r for r in results if [r["architecture"], r["labels"]] == first]


def _whole_protocol(
    protocol: ProtocolConfig, images: Artifact, config: JudgeConfig, kind: str
) -> ProtocolConfig:
    resolved = protocol.resolve(images.summary["counts"])
    networks = list(protocol.architectures)
    networks += [model for model in config.architectures if model not in networks]
    return replace(resolved, architectures=networks, labels=kind)


def _label_source(bench: Bench) -> str:
    if bench.own_labels(bench.engine, replace(bench.protocol, labels="soft")):
        return "own"
    return "own teacher" if has_teacher(bench.given) else "configured teacher"


def _robustness(
    engine: Engine,
    trained: Mapping[tuple[str, str], Artifact],
    found: Judgement,
    config: JudgeConfig,
) -> dict[str, Any]:
    """The headline's networks on disturbed test images."""
    chosen = of_headline(found.results)
    artifacts = [trained[r["labels"], r["images"]] for r in chosen]
    folders = [
        artifact.folder / unit_name(result["architecture"], result["seed"])
        for artifact, result in zip(artifacts, chosen, strict=True)
    ]
    names = [f"{result['images']} {result['seed']}" for result in chosen]
    measured = measure_robustness(
        engine,
        dict(zip(names, folders, strict=True)),
        config.attack,
        artifacts,
        "of trained networks",
    )
    networks = [
        {"images": result["images"], "seed": result["seed"], **values}
        for result, values in zip(chosen, measured.summary["results"], strict=True)
    ]
    return {"images": measured.summary["images"], "networks": networks}


def _scores(bench: Bench, results: Results, config: JudgeConfig) -> dict[str, Any]:
    """LRS and ARS of the first architecture; accuracies in [0, 1] are means over seeds.

    The whole real set is trained on once, with the recipe of the configured teacher.
    """
    engine, first = bench.engine, of_headline(results)
    kind, architecture = first[0]["labels"], first[0]["architecture"]
    whole = observe(engine, bench.protocol.architectures[:1])[0]
    real = engine.card(whole).top1
    assert real is not None  # it is trained with a test split
    own, random = (_mean(first, name) for name in ("distilled", "random"))
    asked = [bench.ask_first(kind, name, plain=True) for name in ("distilled", "random")]
    if kind != "hard":
        asked.append(bench.ask_first("hard", "distilled", plain=False))
    means = [_mean(item.summary["results"]) for item in bench.train(asked)]
    plain, plain_random, hard = (*means, own)[:3]
    recovery, improvement = hard_label_recovery(real, hard), improvement_over_random(own, random)
    return {
        "architecture": architecture,
        "labels": kind,
        "seeds": bench.protocol.seeds,
        "weight": config.lrs_weight,
        "gamma": config.ars_gamma,
        "lrs": label_robust_score(recovery, improvement, config.lrs_weight),
        "ars": augmentation_robust_score(own, random, plain, plain_random, config.ars_gamma),
        "hlr": recovery,
        "ior": improvement,
        "real_hard": real,
        "distilled_hard": hard,
        "distilled": own,
        "random": random,
        "distilled_plain": plain,
        "random_plain": plain_random,
    }


def _mean(results: Sequence[Mapping[str, Any]], images: str | None = None) -> float:
    return fmean(r["top1_last"] for r in results if images in (None, r["images"]))
