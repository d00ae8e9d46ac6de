"""The presets of CCFS and the cells of its published table, as the configuration tree has them."""

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import yaml

from raydd.config.compose import compose_tree, config_dir
from raydd.config.tree import compose_config
from raydd.methods.ccfs import CcfsConfig, arrangement
from raydd.methods.curricular import CurricularConfig

# data set, ipc: alpha, core and curricula, batch of each filter, epochs and batch of the judges
SCRIPTS = {
    ("cifar10", 250): (0.2, (50, [67, 67, 66]), [32, 32, 32], 500, 32),
    ("cifar10", 500): (0.1, (50, [150, 150, 150]), [32, 32, 32], 500, 64),
    ("cifar10", 1000): (0.3, (300, [234, 233, 233]), [32, 64, 64], 250, 128),
    ("cifar10", 1500): (0.3, (450, [350, 350, 350]), [32, 64, 128], 200, 128),
    ("cifar100", 25): (0.2, (5, [7, 7, 6]), [32, 32, 32], 500, 32),
    ("cifar100", 50): (0.1, (5, [15, 15, 15]), [32, 32, 32], 500, 64),
    ("cifar100", 100): (0.1, (10, [30, 30, 30]), [32, 32, 64], 250, 128),
    ("cifar100", 150): (0.2, (30, [40, 40, 40]), [32, 64, 128], 200, 128),
    ("tiny_imagenet", 50): (0.2, (10, [14, 13, 13]), [64, 64, 64], 100, 64),
    ("tiny_imagenet", 100): (0.2, (20, [27, 27, 26]), [64, 64, 64], 100, 64),
}
# alpha, learning rate, weight decay, arrangement in the authors' log
NOTEBOOKS = {
    ("cifar10", 500): (0.2, 0.1, 5e-4, (100, [134, 133, 133])),
    ("cifar100", 50): (0.4, 0.1, 5e-4, (20, [10, 10, 10])),
    ("tiny_imagenet", 100): (0.2, 0.2, 1e-4, (20, [27, 27, 26])),
}
PAPER = {
    ("cifar10", 250): "87.9 +- 0.4", ("cifar10", 500): "92.5 +- 0.2",
    ("cifar10", 1000): "93.2 +- 0.1", ("cifar10", 1500): "93.8 +- 0.1",
    ("cifar100", 25): "65.3 +- 0.2", ("cifar100", 50): "71.5 +- 0.3",
    ("cifar100", 100): "73.0 +- 0.2", ("cifar100", 150): "74.8 +- 0.2",
    ("tiny_imagenet", 50): "55.8 +- 0.3", ("tiny_imagenet", 100): "60.2 +- 0.2",
}  # fmt: skip


@cache
def composed(*overrides):
    return compose_config(overrides)


def experiment(dataset, ipc, suffix="", *overrides):
    return deepcopy(composed(f"+experiment=ccfs_{dataset}_ipc{ipc}{suffix}", *overrides))


def shares(config):
    method = config.method
    return arrangement(method.ipc, method.alpha, method.curricula)


def filter_batches(method):
    """Batch size of each curriculum's filter, by the nominal size of the set it is trained on."""
    core, chosen = arrangement(method.ipc, method.alpha, method.curricula)
    sizes = [core + sum(chosen[:j]) for j in range(method.curricula)]
    if not method.filter_model.batch_by_ipc:
        return [method.filter_model.recipe.batch_size] * len(sizes)
    return [threshold_batch(method.filter_model.batch_by_ipc, size) for size in sizes]


def threshold_batch(batch_by_ipc, ipc):
    return batch_by_ipc[max(least for least in batch_by_ipc if least <= ipc)]


@pytest.mark.parametrize("cell", SCRIPTS, ids=str)
def test_every_cell_of_the_table_has_the_settings_of_the_scripts(cell):
    alpha, split, batches, epochs, batch = SCRIPTS[cell]
    config = experiment(*cell)
    assert (config.dataset.name, config.method.ipc) == cell
    assert (config.method.name, config.method.alpha, shares(config)) == ("ccfs", alpha, split)
    assert split[0] + sum(split[1]) == config.method.ipc
    assert filter_batches(config.method) == batches
    assert (config.protocol.recipe.epochs, config.protocol.recipe.batch_size) == (epochs, batch)
    assert config.protocol.recipe.learning_rate == 0.2
    assert config.protocol.recipe.weight_decay == 1e-4


@pytest.mark.parametrize("cell", SCRIPTS, ids=str)
def test_what_the_cells_share(cell):
    method, protocol = (config := experiment(*cell)).method, config.protocol
    assert (method.coarse, method.teacher_correct, method.fine) == ("misclassified", "on", "simple")
    assert (method.difficulty.by, method.difficulty.runs, method.balanced) == (
        "forgetting",
        5,
        True,
    )
    assert method.core is None
    assert (protocol.name, protocol.seeds, protocol.labels) == ("ccfs", 5, "soft")
    for model in (config.teacher.model, method.filter_model.model, *protocol.architectures):
        assert (model.name, model.width, model.pretrained) == ("resnet18_small", None, False)


@pytest.mark.parametrize("cell", SCRIPTS, ids=str)
def test_the_judges_take_the_batch_that_a_filter_of_their_size_would(cell):
    config = experiment(*cell)
    if thresholds := config.method.filter_model.batch_by_ipc:
        assert config.protocol.recipe.batch_size == threshold_batch(thresholds, cell[1])
        assert min(thresholds) == 0


@pytest.mark.parametrize("cell", NOTEBOOKS, ids=str)
def test_the_notebooks_have_settings_of_their_own(cell):
    alpha, rate, decay, split = NOTEBOOKS[cell]
    config = experiment(*cell, "_notebook")
    assert (config.method.alpha, shares(config)) == (alpha, split)
    assert config.protocol.recipe.learning_rate == rate
    assert config.protocol.recipe.weight_decay == decay


@pytest.mark.parametrize("cell", NOTEBOOKS, ids=str)
def test_scripts_and_notebooks_differ_by_alpha_rate_and_decay_only(cell):
    script, notebook = experiment(*cell), experiment(*cell, "_notebook")
    assert (script == notebook) == (cell[0] == "tiny_imagenet")
    recipe = script.protocol.recipe
    settings = {"learning_rate": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    notebook.method.alpha = script.method.alpha
    notebook.method.filter_model.recipe = replace(notebook.method.filter_model.recipe, **settings)
    notebook.protocol.recipe = replace(notebook.protocol.recipe, **settings)
    assert notebook == script


@pytest.mark.parametrize("cell", [*SCRIPTS, *((*cell, "_notebook") for cell in NOTEBOOKS)], ids=str)
def test_filters_are_trained_as_the_judges_are(cell):
    config = experiment(*cell)
    ours, theirs = config.method.filter_model.recipe, config.protocol.recipe
    assert replace(ours, test_points=theirs.test_points) == theirs


def test_every_experiment_of_ccfs_is_a_cell_and_names_the_published_number():
    files = (config_dir() / "experiment").glob("ccfs_*.yaml")
    texts = {path.stem: path.read_text("utf-8") for path in files}
    del texts["ccfs_cifar10_cpu"]  # ours: small networks on a CPU, no cell of the paper
    cells = {f"ccfs_{name}_ipc{ipc}": PAPER[name, ipc] for name, ipc in SCRIPTS}
    cells |= {f"ccfs_{name}_ipc{ipc}_notebook": PAPER[name, ipc] for name, ipc in NOTEBOOKS}
    assert texts.keys() == cells.keys()
    for name, text in texts.items():
        assert text.startswith("# @package _global_\n# CCFS, "), name
        assert cells[name] in text.splitlines()[1], name


@pytest.mark.parametrize(
    ("dataset", "ipc", "constants"),
    [("cifar10", 500, (1000, 0.25, 0.01)), ("cifar100", 50, (1000, 0.25, 0.01)),
     ("tiny_imagenet", 100, (4000, 0.4, 0.05))],
)  # fmt: skip
def test_the_pool_is_cda_in_the_same_run(dataset, ipc, constants):
    pool = experiment(dataset, ipc).method.synthesis
    assert (pool.steps, pool.learning_rate, pool.batch_norm_weight) == constants
    assert (pool.start, pool.start_weight, pool.adversarial_weight) == ("noise", 0, 0)
    assert (pool.crop, pool.flip, pool.crop_schedule, pool.roll) == (True, True, "cosine", [0, 4])


def test_the_teachers_are_those_of_sre2l():
    cifar = experiment("cifar100", 50).teacher.recipe
    tiny = experiment("tiny_imagenet", 50).teacher.recipe
    assert cifar == experiment("cifar10", 250).teacher.recipe
    for recipe in (cifar, tiny):
        assert (recipe.epochs, recipe.optimizer, recipe.mix) == (200, "sgd", "none")
        assert (recipe.momentum, recipe.nesterov, recipe.decay_all) == (0.9, False, True)
    assert (cifar.learning_rate, cifar.weight_decay, cifar.batch_size) == (0.1, 5e-4, 128)
    assert (cifar.crop, cifar.padding, cifar.warmup_epochs) == ("pad", 4, 0)
    assert (tiny.learning_rate, tiny.weight_decay, tiny.batch_size) == (0.2, 1e-4, 256)
    assert (tiny.crop, list(tiny.crop_scale), tiny.warmup_epochs) == ("resized", [0.08, 1], 5)


def test_the_protocol_is_that_of_section_4():
    recipe = compose_config(["protocol=ccfs"]).protocol.recipe
    assert (recipe.optimizer, recipe.momentum, recipe.nesterov) == ("sgd", 0.9, False)
    assert (recipe.decay_all, recipe.warmup_epochs, recipe.precision) == (True, 5, "fp32")
    assert (recipe.crop, list(recipe.crop_scale), recipe.mix) == ("resized", [0.08, 1.0], "none")
    assert (recipe.temperature, recipe.scale_by_temperature) == (20, True)


def test_a_changed_recipe_changes_filters_and_judges_or_filters_alone():
    both = experiment("cifar10", 500, "", "protocol.recipe.epochs=7")
    assert both.method.filter_model.recipe.epochs == both.protocol.recipe.epochs == 7
    filters = experiment("cifar10", 500, "", "method.filter_model.recipe.epochs=7")
    assert filters.method.filter_model.recipe.epochs == 7
    assert filters.protocol.recipe.epochs == 500


def test_the_default_is_small():
    method = composed("method=ccfs").method
    assert isinstance(method, CcfsConfig)
    assert (method.ipc, method.alpha, method.curricula) == (50, 0.2, 3)
    assert arrangement(method.ipc, method.alpha, method.curricula) == (10, [14, 13, 13])
    assert method.filter_model.model.name == "resnet10_thin"
    assert method.filter_model.batch_by_ipc == {}
    assert method.synthesis == composed("method=cda").method.synthesis


@pytest.mark.parametrize(("name", "fine"), [("random", "random"), ("forgetting", "simple")])
def test_baselines_are_presets_without_core_and_filter(name, fine):
    method = composed(f"method={name}").method
    assert isinstance(method, CcfsConfig)
    assert (method.name, method.fine, method.shortfall) == (name, fine, "error")
    assert (method.coarse, method.teacher_correct) == ("off", "off")
    assert arrangement(method.ipc, method.alpha, method.curricula) == (0, [50])
    ours = composed("method=ccfs").method
    assert (method.ipc, method.difficulty) == (ours.ipc, ours.difficulty)


def test_the_papers_variant_of_forgetting_takes_the_hardest_first():
    method = compose_config(["method=forgetting", "method.fine=hard"]).method
    assert (method.fine, method.difficulty.by) == ("hard", "forgetting")


@pytest.mark.parametrize("loop", sorted(p.stem for p in (config_dir() / "synthesis").glob("*")))
def test_the_recover_loop_of_a_method_is_a_choice(loop):
    ccfs, cda, curricular = (
        compose_config([f"method={method}", f"{sign}synthesis@method.synthesis={loop}"]).method
        for method, sign in (("ccfs", ""), ("cda", ""), ("curricular", "+"))
    )
    assert ccfs.synthesis == cda.synthesis
    assert curricular.synthesis.steps == ccfs.synthesis.steps
    assert (curricular.synthesis.start, curricular.synthesis.start_weight) == ("noise", 0)


@pytest.mark.parametrize(
    ("name", "view"),
    [("sre2l", (False, False, "constant")), ("cda", (True, True, "cosine"))],
)
def test_the_presets_of_sre2l_keep_their_constants(name, view):
    method = composed(f"method={name}").method
    assert isinstance(method, CurricularConfig)
    assert (method.name, method.ipc, method.boundaries) == (name, 10, [])
    loop = method.synthesis
    assert (loop.start, loop.start_weight, loop.adversarial_weight) == ("noise", 0, 0)
    assert (loop.steps, loop.batch_size, loop.learning_rate) == (1000, 100, 0.25)
    assert (loop.batch_norm_weight, loop.roll, loop.crop_milestone) == (0.01, [0, 4], 1)
    assert (loop.crop, loop.flip, loop.crop_schedule) == view


def test_on_and_off_are_words_not_booleans():
    for path in (config_dir() / "method").glob("*.yaml"):
        values = yaml.safe_load(path.read_text("utf-8"))
        for key in ("coarse", "teacher_correct"):
            assert isinstance(values.get(key, ""), str), path
    tree = compose_tree(["method=ccfs", "method.teacher_correct=off"])
    assert tree.method.teacher_correct == "off"
