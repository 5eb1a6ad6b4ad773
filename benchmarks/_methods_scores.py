"""Accuracies of the models that are trained on a set of methods.py."""

import time

import numpy as np
from _data import scoring_of

from skdistill import ConvNetClassifier
from skdistill.metrics import evaluate_synthetic, standard_estimators
from skdistill.neural_network import NeuralKernelClassifier

# As many as of SGD in a usual call; a set of targets takes the larger ones.
ADAM_RATES = (0.001, 0.003, 0.01, 0.03)
# By their names in standard_estimators.
NETWORKS = {"mlp": "MLP", "resnet18": "ResNet18"}
OF_TABLES = {"logistic": "logistic regression", "forest": "random forest"}
# The ConvNet of the table without augmentation, and with a class for each image.
PLAIN, HARD = "no augmentation", "hard labels"
OTHERS = (*NETWORKS, *OF_TABLES, PLAIN, HARD)
BATCH_SIZE = 256


def scores(synthetic, split, cell, options):
    """Score a set by new networks and kernel regression."""
    begin = time.process_time()
    if cell["method"] == "FullData":
        changes = {"batch_size": 64, "max_iter": options.full_epochs}
    else:
        changes = {}
    score = by_convnet(synthetic, split, cell, options, **changes)
    found = {
        "accuracies": " ".join(f"{value:.5f}" for value in score.scores),
        "learning_rate": score.parameters["learning_rate"],
    }
    if cell["method"] != "FullData":
        # That of the distiller, where it is one of kernels.
        said = synthetic.metadata.get("default_estimator") or {}
        of_kernel = said.get("name") == "NeuralKernelClassifier"
        found["kernel"] = evaluate_synthetic(
            synthetic,
            split.X_test,
            split.y_test,
            estimator=None if of_kernel else NeuralKernelClassifier(),
            scoring=scoring_of(split.y_test),
            n_repeats=1,
            random_state=cell["seed"],
        ).mean
    return found | {"scoring_seconds": round(time.process_time() - begin, 2)}


def other_scores(synthetic, split, cell, options):
    """Return accuracies of other learners, and of the ConvNet trained otherwise.

    The others are given a class for each image: not all can make use of soft labels.
    """
    hard = synthetic.X, synthetic.y
    known = standard_estimators(
        width=options.width, max_iter=n_epochs_of(synthetic, options), device="cpu"
    )
    rates = {"learning_rate": list(options.rates)}
    found = {}
    for name, title in (NETWORKS | OF_TABLES).items():
        found[name] = evaluated(
            hard, split, cell, options, known[title], rates if name in NETWORKS else {}
        ).mean
    found[PLAIN] = by_convnet(synthetic, split, cell, options, augmentation=None).mean
    if synthetic.targets is None and synthetic.probabilities is None:
        found[HARD] = np.mean([float(value) for value in cell["accuracies"].split()])
    else:
        found[HARD] = by_convnet(hard, split, cell, options).mean
    return found


def by_convnet(synthetic, split, cell, options, **changes):
    """Score the ConvNet of the table."""
    parameters = {"width": options.width, "device": "cpu", "batch_size": BATCH_SIZE}
    rates = options.rates
    # Regression targets are no classes: networks come close to them, by Adam.
    if getattr(synthetic, "targets", None) is not None:
        parameters |= {"loss": "squared", "optimizer": "adam"}
        rates = ADAM_RATES
    parameters["max_iter"] = n_epochs_of(synthetic, options)
    return evaluated(
        synthetic,
        split,
        cell,
        options,
        ConvNetClassifier(**parameters | changes),
        {"learning_rate": list(rates)},
    )


def evaluated(synthetic, split, cell, options, estimator, grid):
    """Score a learner; what it is given to choose from is chosen on validation."""
    return evaluate_synthetic(
        synthetic,
        split.X_test,
        split.y_test,
        estimator=estimator,
        protocol="honest",
        scoring=scoring_of(split.y_test),
        X_validation=split.X_validation,
        y_validation=split.y_validation,
        param_grid=grid,
        n_validation_repeats=options.validation_networks,
        n_repeats=options.networks,
        random_state=cell["seed"],
    )


def n_epochs_of(synthetic, options):
    """Return the epochs of as many steps as all sets get."""
    n_images = len(synthetic[0] if isinstance(synthetic, tuple) else synthetic)
    return max(options.score_steps // -(-n_images // BATCH_SIZE), 1)
