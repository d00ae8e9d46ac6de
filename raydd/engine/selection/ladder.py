"""CUDD's ladder: real images that the student does not know yet come first, as starts."""

import numpy as np

from raydd.engine.selection.difficulty import DifficultyConfig, easiest_first
from raydd.engine.selection.ranking import Ranking
from raydd.ops.scores import Columns

FIRST_LADDER = ("simple", "other")
LADDER = ("medium", "hard", "other")


def ladder(easiest: DifficultyConfig | None, static: int, has_student: bool) -> Ranking:
    """How a curriculum's start images are ordered.

    Args:
        easiest: which images of a rung come first; None draws them at random (the paper).
        static: tables that are made by no student: the teacher's, and those of the difficulty.
        has_student: the last table is a student's.
    """
    ranking = Ranking(
        LADDER if has_student else FIRST_LADDER,
        lambda tables: rung([tables[0], *tables[static:]]),
    )
    return easiest_first(ranking, easiest, static) if easiest else ranking


def rung(tables: list[Columns]) -> np.ndarray:
    """Rung of each real image on the ladder; the lowest that holds.

    Args:
        tables: columns of the teacher's score table and, from the second curriculum on, of the
            student's.

    Returns:
        int8 [N]. First curriculum: 0 simple (teacher right), 1 other. Later: 0 medium (teacher
        right, student wrong), 1 hard (both wrong), 2 other.
    """
    teacher_right = tables[0]["prediction"] == tables[0]["class_index"]
    if len(tables) == 1:
        return np.where(teacher_right, 0, 1).astype(np.int8)
    student_right = tables[1]["prediction"] == tables[1]["class_index"]
    return np.select([student_right, teacher_right], [2, 0], 1).astype(np.int8)
