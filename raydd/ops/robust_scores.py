"""LRS and ARS: how much of a distilled set's accuracy is its images', not its recipe's.

Source: DD-Ranking, arXiv 2505.13300. All accuracies are fractions in [0, 1]. The released evaluator
puts points (0 to 100) into the exponential, which cannot rank anything; hence the checks.
"""

import math


def hard_label_recovery(real: float, distilled: float) -> float:
    """HLR = acc(real, hard) - acc(distilled, hard); lower is better.

    This is DD-Ranking's sign: what hard labels lose against training on the whole real set.

    Args:
        real: accuracy of a network trained on the whole real set with its own labels, [0, 1].
        distilled: accuracy of one trained on the distilled images with hard labels, [0, 1].
    Returns:
        In [-1, 1].
    Raises:
        ValueError: an accuracy outside [0, 1].
    """
    _check(0.0, real=real, distilled=distilled)
    return real - distilled


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR = acc(distilled, own recipe) - acc(random, same recipe); higher is better.

    Args:
        distilled: accuracy with the labels and the recipe of the method, [0, 1].
        random: accuracy of as many random real images with the same recipe, [0, 1].
    Returns:
        In [-1, 1].
    Raises:
        ValueError: an accuracy outside [0, 1].
    """
    _check(0.0, distilled=distilled, random=random)
    return distilled - random


def label_robust_score(
    hard_label_recovery: float, improvement_over_random: float, weight: float = 0.5
) -> float:
    """LRS = (e^a - e^-1) / (e - e^-1), where a = w IOR - (1 - w) HLR; higher is better.

    Args:
        hard_label_recovery: HLR, see :func:`hard_label_recovery`, [-1, 1].
        improvement_over_random: IOR, see :func:`improvement_over_random`, [-1, 1].
        weight: w, of IOR, [0, 1].
    Returns:
        In [0, 1]; 0.269 where both differences are 0.
    Raises:
        ValueError: a difference outside [-1, 1] or a weight outside [0, 1].
    """
    _check(0.0, weight=weight)
    _check(
        -1.0,
        hard_label_recovery=hard_label_recovery,
        improvement_over_random=improvement_over_random,
    )
    return _normalised(weight * improvement_over_random - (1 - weight) * hard_label_recovery)


def augmentation_robust_score(
    distilled_with: float,
    random_with: float,
    distilled_without: float,
    random_without: float,
    gamma: float = 0.5,
) -> float:
    """ARS = (e^b - e^-1) / (e - e^-1); higher is better.

    b = g (distilled - random with augmentation) + (1 - g) (distilled - random without).

    Args:
        distilled_with: accuracy of the distilled images with augmentation, [0, 1].
        random_with: of as many random real images with the same augmentation, [0, 1].
        distilled_without: of the distilled images without augmentation, [0, 1].
        random_without: of the random ones without augmentation, [0, 1].
        gamma: g, of the lead with augmentation, [0, 1].
    Returns:
        In [0, 1]; 0.269 where the distilled images are as good as random ones.
    Raises:
        ValueError: an accuracy or gamma outside [0, 1].
    """
    _check(0.0, gamma=gamma)
    lead_with = improvement_over_random(distilled_with, random_with)
    lead_without = improvement_over_random(distilled_without, random_without)
    return _normalised(gamma * lead_with + (1 - gamma) * lead_without)


def _normalised(difference: float) -> float:
    """[-1, 1] to [0, 1]."""
    return (math.exp(difference) - math.exp(-1)) / (math.e - math.exp(-1))


def _check(low: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= 1:
            raise ValueError(
                f"{name} is a fraction in [{low:g}, 1], got {value:g}: divide points by 100"
            )
