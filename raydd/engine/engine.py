"""What a driver sees: every stage is one call that returns an artifact."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from raydd.engine.generator_stages import GeneratorStages
from raydd.engine.labels.relabel import RelabelJob, relabel_images
from raydd.engine.observer_stages import ObserverStages
from raydd.engine.protocol import ProtocolConfig, evaluate_images
from raydd.engine.selection.core import adopt_core, open_core
from raydd.engine.selection.fetch import fetch_images
from raydd.engine.selection.select import ANY, Ranking, select_images
from raydd.engine.synthesis_stages import SynthesisStages
from raydd.engine.teacher_stages import TeacherStages
from raydd.engine.training.stage import train_stage
from raydd.models.registry import ModelConfig
from raydd.ops.recipe import Recipe
from raydd.ops.seeds import derive_seed
from raydd.store.artifacts import Artifact

_HELD_OUT = "validation"


@dataclass
class Engine(TeacherStages, GeneratorStages, ObserverStages, SynthesisStages):
    """The stages of one run, bound to its source, cluster and storage."""

    def select(
        self,
        tables: Sequence[Artifact],
        ranking: Ranking,
        count: int | Sequence[int],
        used: Sequence[Artifact] = (),
        curriculum: int = 0,
        draw: str = "start",
    ) -> Artifact:
        """Choose real images of every class.

        Args:
            tables: aligned score tables.
            ranking: which images come first.
            count: images per class, one number for all or one for each.
            used: earlier selections; no image is chosen twice.
            curriculum: number of the curriculum.
            draw: what the images are chosen for; names the random order.
        """
        if self.validation and draw != _HELD_OUT:
            used = [*used, self.hold_out(tables[0])]
        seed = derive_seed(self.seed, "select", draw, curriculum)
        counts = np.asarray(count).tolist()
        config = {**ranking.key(), "count": counts, "draw": draw, "curriculum": curriculum}
        return self.stages.run(
            "select",
            lambda folder: select_images(
                folder, tables, ranking, count, used, seed, len(self.class_names)
            ),
            inputs=[*tables, *used],
            config=config,
            seed=self.seed,
            title=f"{draw} {curriculum}",
        )

    def fetch(
        self, selection: Artifact, after: Sequence[Artifact], curriculum: int, title: str
    ) -> Artifact:
        """Pixels of chosen real images; their slots follow those of the images ``after``."""
        nothing = [0] * len(self.class_names)
        first_slots = np.sum([nothing, *(i.summary["counts"] for i in after)], axis=0).tolist()
        return fetch_images(
            self.stages,
            self.train_source,
            selection,
            first_slots,
            curriculum,
            self.preprocessing,
            self.data,
            self.resources,
            title,
        )

    def adopt_core(self, path: str, count: int) -> Artifact:
        """The first ``count`` images per class of a distilled set that exists."""
        distilled = open_core(path, count, self.class_names, self.preprocessing.resolution)
        return adopt_core(self.stages, distilled, count)

    def train(
        self,
        images: Sequence[Artifact],
        teacher: Artifact | None,
        model: ModelConfig,
        recipe: Recipe,
        warm_start: Artifact | None = None,
        title: str = "student",
    ) -> Artifact:
        """Train a network on distilled images, with the teacher's soft labels or with hard ones."""
        job = replace(
            self.new_job(model, recipe, title, ("train", title)),
            images=tuple(str(item.folder) for item in images),
            teacher=str(teacher.folder) if teacher else None,
            warm_start=str(warm_start.folder) if warm_start else None,
            test=str(self.decode_test().folder),
        )
        inputs = [item for item in (*images, teacher, warm_start) if item]
        return train_stage(self.stages, "train", job, inputs, self.resources, self.seed, title)

    def relabel(
        self, images: Sequence[Artifact], teacher: Artifact, recipe: Recipe, title: str
    ) -> Artifact | None:
        """Soft labels of the views of an image set; None where the teacher is asked online."""
        if self.labels.form == "online":
            return None
        job = RelabelJob(
            folder="",
            images=tuple(str(item.folder) for item in images),
            teacher=str(teacher.folder),
            info=self.label_info(images, recipe),
            device=self.resources.device,
        )
        return relabel_images(self.stages, job, images, teacher, self.resources, title)

    def evaluate(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact,
        test: Artifact,
        title: str,
    ) -> list[dict[str, Any]]:
        """Accuracies of fresh networks; see :func:`raydd.engine.protocol.evaluate_images`."""
        return self.train_judges(images, protocol, teacher, title, test=test).summary["results"]

    def train_judges(
        self,
        images: Sequence[Sequence[Artifact]],
        protocol: ProtocolConfig,
        teacher: Artifact | None,
        title: str,
        labels: Artifact | None = None,
        test: Artifact | None = None,
    ) -> Artifact:
        """Fresh networks on image sets, one set for each seed.

        Args:
            images: artifacts of each seed's set.
            protocol: what is trained and how, resolved.
            teacher: gives soft labels; hard ones need none.
            title: of the image set.
            labels: soft labels that the set brings; None makes them as the configuration says.
            test: images that are judged on; None is the test split.
        """
        job = self.new_job(protocol.architectures[0], protocol.recipe, title, ())
        given: list[Artifact | None] = [labels] * len(images) if labels else []
        if teacher and protocol.labels == "soft" and not labels:
            given = [self.relabel(i, teacher, protocol.recipe, title) for i in images]
        return evaluate_images(
            self.stages,
            images,
            given,
            job,
            protocol,
            test or self.decode_test(),
            teacher,
            self.resources,
            self.seed,
            title,
        )

    def hold_out(self, teacher_scores: Artifact) -> Artifact:
        """Selection of the real images that no other selection takes."""
        return self.select([teacher_scores], ANY, self.validation, draw=_HELD_OUT)

    def judging_images(self, teacher_scores: Artifact) -> Artifact:
        """Images that fresh networks are judged on: the test split, or those held out."""
        if not self.validation:
            return self.decode_test()
        return self.fetch(self.hold_out(teacher_scores), [], 0, _HELD_OUT)

    def random_images(self, teacher_scores: Artifact, counts: Sequence[int], draw: int) -> Artifact:
        """Random real images, ``counts`` of each class, another draw for every number."""
        chosen = self.select([teacher_scores], ANY, counts, curriculum=draw, draw="random")
        return self.fetch(chosen, [], 0, f"random {draw}")
