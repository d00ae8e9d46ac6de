"""Every stage that a driver may call, on one page; the engine is the first argument of each.

| stage | makes |
|---|---|
| ``squeeze`` ``observe`` ``ensemble`` | the teacher; observers; the mean of several networks |
| ``score`` ``score_teacher`` | a table with a row for each real image |
| ``measure`` | statistics of the real images in the layers of observers |
| ``class_counts`` | how many images each class has |
| ``stored_images`` ``decode_test`` | the real pixels, where they fit in memory; the test split's |
| ``difficulty`` ``check_difficulty`` | further tables that say what is simple |
| ``select`` ``hold_out`` ``fetch`` | a choice of real images; their pixels |
| ``adopt_core`` | the first images of a distilled set that exists |
| ``synthesize`` ``match`` ``crop`` | images: optimised; matched to statistics; tiled |
| ``generator`` ``tune`` ``sample`` | a diffusion model; fine-tuned; images of it |
| ``train`` ``relabel`` | a network on distilled images; soft labels made ahead |
"""

from raydd.engine.engine import Engine
from raydd.engine.generator.stage import generator, tune
from raydd.engine.labels.relabel import relabel
from raydd.engine.passes.decode import class_counts, decode_test, stored_images
from raydd.engine.passes.score import score, score_teacher
from raydd.engine.passes.statistics import measure
from raydd.engine.sampling.stage import sample
from raydd.engine.selection.core import adopt_core
from raydd.engine.selection.difficulty import check_difficulty, difficulty
from raydd.engine.selection.fetch import fetch
from raydd.engine.selection.select import hold_out, select
from raydd.engine.synthesis.crop import crop
from raydd.engine.synthesis.stage import match, synthesize
from raydd.engine.training.stage import train
from raydd.engine.training.teacher import ensemble, observe, squeeze

__all__ = [
    "Engine",
    "adopt_core",
    "check_difficulty",
    "class_counts",
    "crop",
    "decode_test",
    "difficulty",
    "ensemble",
    "fetch",
    "generator",
    "hold_out",
    "match",
    "measure",
    "observe",
    "relabel",
    "sample",
    "score",
    "score_teacher",
    "select",
    "squeeze",
    "stored_images",
    "synthesize",
    "train",
    "tune",
]
