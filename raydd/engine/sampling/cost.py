"""What sampling takes."""

from collections.abc import Sequence

from raydd.engine.cost import BACKWARD, Cost, Work, models_of, sizes
from raydd.engine.engine import Engine
from raydd.engine.generator.cost import config_of, sizes_of, transformer_step
from raydd.engine.sampling.config import SampleConfig
from raydd.store.artifacts import Artifact
from raydd.store.units import Unit


def sampling_cost(
    engine: Engine,
    generator: Artifact,
    judges: Sequence[Artifact],
    config: SampleConfig,
    units: Sequence[Unit],
) -> Cost:
    """One curriculum's units.

    A batch is asked twice for guidance by class; where the energy's gradient passes through the
    transformer, its activations get gradients. In the window every estimate is decoded and judged,
    with gradients to the latents.

    Args:
        engine: of the run.
        generator: the diffusion model.
        judges: discriminator and reference, as far as they are asked.
        config: of the sampler.
        units: of the stage.
    """
    made, (low, high) = sizes_of(engine, config_of(generator)), config.adversary.window
    judging = [sizes(engine, model) for item in judges for model in models_of(engine, item)]
    full = bool(judges) and config.adversary.gradient == "full"
    doubled = 1 if config.guidance_scale == 1 else 2
    memory = made.weights + doubled * config.batch_size * made.activations * (2 if full else 1)
    memory += sum(s.weights + 2 * config.decode_batch * s.activations for s in judging)
    guided_steps = (high - low) if judges else 0
    flops = made.flops * doubled * (1 + (guided_steps if full else 0))  # frozen weights
    flops += guided_steps * BACKWARD * (made.decoder + sum(s.flops for s in judging))
    flops += made.decoder / config.steps
    count, batch = (f(len(unit.labels) for unit in units) for f in (sum, max))
    step = transformer_step(engine, config_of(generator), made.flops)
    return Cost(
        writes=count * engine.pixel_bytes,
        memory=memory,
        work=[Work(step, config.steps * count / batch, batch, flops)],
        divides="units",
    )
