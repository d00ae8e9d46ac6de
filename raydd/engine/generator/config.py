"""Every constant of making a generator, with the checks that need no data."""

from dataclasses import asdict, dataclass, field
from typing import Any

from raydd.models.precision import PRECISIONS
from raydd.ops.configs import check_at_least_one, check_choices, later

# decides nothing about the weights, or stands in the key by itself
_HOW = ("checkpoint_seconds", "cache_latents", "seed")


@dataclass
class GeneratorRecipe:
    """How a diffusion transformer is trained; the defaults are DiT's, for a large one.

    The loss is the square error of the noise plus the bound of the variance, as in
    :func:`raydd.ops.diffusion_loss.diffusion_loss`; timesteps are uniform. The learning rate is
    constant after the warm-up.

    Attributes:
        steps: optimisation steps; resume continues at the step.
        batch_size: images per step over all workers.
        learning_rate: of AdamW; small transformers bear ten times as much.
        warmup_steps: linear rise from 1 % of the learning rate.
        weight_decay: of AdamW, for matrices and kernels.
        average_decay: the weights that are kept are a running average with this decay per step; 0
            keeps the last ones. A tenth of the steps should be more than 1 / (1 - decay).
        class_dropout: share of the images that are shown without their class, which guidance needs.
        variance_weight: of the bound's term beside the square error.
        precision: "bf16", "fp16", "fp32" or "auto" (bf16, or on a GPU fp16, where the device
            is fast at it).
        checkpoint_seconds: from one checkpoint to the next; less where writing is quick.
        cache_latents: encode every image once and keep what the VAE says, rounded to float16, on
            disk (16 KB an image of 256 pixels and as much of the mirrored one); null does where
            there is a VAE and more views are shown than that takes.
        seed: of the weights and draws; null is the run's. Runs that differ in their seed share a
            generator then.
    """

    steps: int = 400_000
    batch_size: int = 256
    learning_rate: float = 1e-4
    warmup_steps: int = 0
    weight_decay: float = 0.0
    average_decay: float = 0.9999
    class_dropout: float = 0.1
    variance_weight: float = 1.0
    precision: str = "auto"
    checkpoint_seconds: float = 60.0
    cache_latents: bool | None = None
    seed: int | None = later(None)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_choices(self, {"precision": PRECISIONS})
        check_at_least_one(self, "steps", "batch_size")
        if not (0 <= self.average_decay < 1 and 0 <= self.class_dropout < 1):
            raise ValueError("average_decay and class_dropout must lie in [0, 1)")
        for name in ("learning_rate", "warmup_steps", "weight_decay", "variance_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")

    def key(self) -> dict[str, Any]:
        """What decides the weights, as json values."""
        return {name: value for name, value in asdict(self).items() if name not in _HOW}


@dataclass
class MinimaxConfig(GeneratorRecipe):
    """Fine-tuning towards samples that cover a class (Minimax Diffusion, arXiv 2311.15529).

    Only biases, norms, class embeddings and scale factors of the first half of the blocks move
    (DiffFit, arXiv 2304.06648). The defaults are the paper's.

    Attributes:
        representative_weight: of pulling predicted latents to the class's real ones.
        diverse_weight: of pushing predicted latents from the class's earlier ones.
        memory: real and predicted latents that are remembered per class; two bytes per number, so
            1 MB per class with latents of 4 x 32 x 32.
    """

    steps: int = 12_000
    batch_size: int = 8
    learning_rate: float = 1e-3
    representative_weight: float = 0.002
    diverse_weight: float = 0.008
    memory: int = 64

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        super().__post_init__()
        check_at_least_one(self, "memory")
        for name in ("representative_weight", "diverse_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass
class GeneratorConfig:
    """Which generator makes images, and where it comes from.

    Attributes:
        path: public weights on the Hugging Face hub ("facebook/DiT-XL-2-256") or a folder in the
            hub's layout, of raydd or not; null trains a small DiT on the source.
        revision: commit, tag or branch of the hub; null is its main branch.
        vae: another VAE than the weights' own, hub or folder ("stabilityai/sd-vae-ft-mse"); a DiT
            that is trained here works in its latents, with null in pixels.
        licence: of the weights. null is known for facebook/DiT-* (cc-by-nc-4.0) and for generators
            that raydd saved, and "as the training images" for one trained here; weights from
            elsewhere need it named, since what is sampled from them inherits it.
        layers: blocks of a DiT that is trained here.
        heads: of its attention; must divide the width.
        width: of its tokens.
        patch: side of a token's patch; must divide the side of a latent.
        recipe: of its training.
    """

    path: str | None = None
    revision: str | None = None
    vae: str | None = None
    licence: str | None = None
    layers: int = 6
    heads: int = 4
    width: int = 256
    patch: int = 2
    recipe: GeneratorRecipe = field(default_factory=GeneratorRecipe)

    def __post_init__(self) -> None:
        """Refuse what cannot run, before any work."""
        check_at_least_one(self, "layers", "heads", "width", "patch")
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if self.revision and not self.path:
            raise ValueError("revision names a version of public weights, but path is null")

    @property
    def is_trained(self) -> bool:
        """Whether the source's images must be read to make this generator."""
        return self.path is None
