"""Simple models on the same rows: a model that is no better has learned nothing."""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bsm_core.preprocess.cells import category_key, category_texts
from bsm_core.preprocess.columns import text_values
from bsm_core.preprocess.features import Imputer
from bsm_core.training.config.training_job import TrainingJob
from bsm_core.training.features.feature_keys import FeatureKinds
from bsm_core.training.metrics import as_text, measure, mode_of
from bsm_core.training.rows.data import Rows

log = logging.getLogger("bsm")

MAJORITY, TEXT, FEATURES = "majority_class", "tfidf_logistic_regression", "gradient_boosting"
"""Names of the baselines in ``training_metrics.json``."""
_SHOWN = {
    MAJORITY: "the majority class",
    TEXT: "TF-IDF and logistic regression on the text",
    FEATURES: "gradient boosting on the features",
}
_METRICS = ("log_loss", "auroc", "accuracy")
_ROWS, _CHARACTERS, _WORDS, _CATEGORIES, _ROUNDS = 20_000, 10_000, 100_000, 250, 100
"""Largest numbers of training rows, of characters of a text, of words and pairs of words, of categories, and of rounds
of boosting, each with a tree for every class."""
_ALL_CHARACTERS, _COEFFICIENTS, _LABELED, _TREES = 40_000_000, 1_000_000, 200_000, 1_000
"""Largest numbers of characters of all texts, of words times classes, of rows times classes, and of trees; they bound
the memory and the time for long texts and many classes."""
_ENOUGH = 20
"""Fewest rows of each class with which boosting stops early, for which it splits off rows by class."""
_FEW_ROWS = 500
_DIGITS = 6
_TIE = 1e-6
"""Difference up to which metrics are equal: those of the baselines are rounded."""
_MARGIN = 0.005
"""Difference from which a baseline is said to be better."""
_EXTRA = "pip install 'bsm-core[baselines]'"

Probabilities = npt.NDArray[np.float64]


def measure_baselines(job: TrainingJob, rows: Rows, held_out: Rows) -> dict[str, dict[str, float | None]]:
    """Return the metrics of simple models, trained on the training rows and measured on the validation rows.

    The majority class gives each row the shares of the classes among the training rows. With scikit-learn, a logistic
    regression on the TF-IDF weights of words and pairs of words reads the text fields, and gradient boosting reads the
    features. They are trained on at most 20,000 rows, of many classes on fewer, with fewer words and trees; the seed of
    the job chooses the rows.

    Args:
        job: The training job.
        rows: The training rows.
        held_out: The validation rows.

    Returns:
        ``log_loss``, ``auroc`` and ``accuracy`` by baseline; None where a metric is not defined.
    """
    classes, config = job.artifact.num_classes, job.artifact
    shares = np.bincount(rows.labels.numpy(), minlength=classes) / len(rows)
    found = {MAJORITY: _measured(np.tile(shares, (len(held_out), 1)), held_out.labels)}
    wanted: dict[str, Callable[[Rows, Rows], tuple[Any, Any, Any]]] = {}
    if config.text_fields:
        wanted[TEXT] = partial(_text_model, [text.column for text in config.text_fields])
    if config.tab_field_list:
        categories = FeatureKinds.of(config, job.training).categories
        wanted[FEATURES] = partial(_feature_model, config.tab_field_list, categories, job.training.seed)
    if job.training.baselines is False:
        return found
    if importlib.util.find_spec("sklearn") is None:
        log.info("without scikit-learn, the only baseline is the majority class; for others, %s", _EXTRA)
        return found
    most = min(_ROWS, max(_ROWS // 10, _LABELED // classes))
    if len(rows) > most:
        chosen = np.random.default_rng(job.training.seed).permutation(len(rows))[:most]
        rows = rows.take(np.sort(chosen).tolist())
    if int((rows.labels.bincount() > 0).sum()) < 2 or not wanted:
        return found
    log.info("measuring the baselines, trained on %s rows", f"{len(rows):,}")
    for name, build in wanted.items():
        try:
            found[name] = _measured(_predicted(build, rows, held_out, classes), held_out.labels)
        except (ValueError, MemoryError) as error:  # of scikit-learn, such as for texts without a word
            log.info("no baseline %s: %s", _SHOWN[name], str(error) or "the memory does not suffice")
    return found


def tell_baselines(best: Mapping[str, float | None], baselines: Mapping[str, Mapping[str, Any]], monitor: str) -> None:
    """Log the metrics of the baselines beside those of the model, and warn of a model that is no better.

    Args:
        best: Metrics of the best epoch.
        baselines: What :func:`measure_baselines` returned.
        monitor: Metric that chose the best epoch; log loss decides if the baselines do not have it.
    """
    shown = {"this model": best, **{_SHOWN[name]: metrics for name, metrics in baselines.items()}}
    for name, metrics in shown.items():
        defined = {key: value for key in _METRICS if (value := metrics.get(key)) is not None}
        log.info("on the validation rows, %s: %s", name, as_text(defined))
    metric = monitor if monitor in _METRICS else "log_loss"
    gains = {name: _gain(best, found, metric) for name, found in baselines.items()}
    majority = gains.pop(MAJORITY, math.nan)
    sure = _gain(best, baselines.get(MAJORITY, {}), "log_loss")
    known = [name for name, gain in gains.items() if not math.isnan(gain)]
    best_name = min(known, key=gains.__getitem__, default=None)
    if majority < -_TIE or (majority <= _TIE and not sure > _TIE):
        log.warning(
            "the model is no better than the majority class (%s): it has not learned to tell the classes apart. Look at"
            " the learning rate (lr), the number of epochs, and the columns",
            as_text({metric: baselines[MAJORITY][metric]}),
        )
        return
    if sure <= _TIE:
        log.warning(
            "the probabilities of the model are no better than the shares of the classes (%s), although it tells the"
            " classes apart: set calibrate, leave out class_weights, or change the number of epochs",
            as_text({"log_loss": baselines[MAJORITY]["log_loss"]}),
        )
    if best_name and gains[best_name] < -_MARGIN:
        words = as_text({metric: baselines[best_name][metric]})
        log.warning("%s is better than the model: %s", _SHOWN[best_name], words)


def _gain(best: Mapping[str, float | None], baseline: Mapping[str, float | None], metric: str) -> float:
    """Return by how much the model is better than a baseline; NaN if the metric of either is not defined."""
    own, other = best.get(metric), baseline.get(metric)
    if own is None or other is None:
        return math.nan
    return own - other if mode_of(metric) == "max" else other - own


def notes_of(baselines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the metrics of the baselines as sentences."""
    known = {
        name: as_text({key: value for key, value in metrics.items() if value is not None})
        for name, metrics in baselines.items()
    }
    return [f"For comparison, {_SHOWN[name]} on these rows: {words}." for name, words in known.items()]


def _measured(probabilities: Probabilities, labels: Tensor) -> dict[str, float | None]:
    found = measure(torch.from_numpy(probabilities), labels)
    return {key: None if math.isnan(found[key]) else round(found[key], _DIGITS) for key in _METRICS}


def _predicted(
    build: Callable[[Rows, Rows], tuple[Any, Any, Any]], rows: Rows, held_out: Rows, classes: int
) -> Probabilities:
    """Return the probabilities of a model of scikit-learn, ``[rows, classes]``; 0 for classes without training rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that an optimizer stopped early, for example
        model, training, measured = build(rows, held_out)
        model.fit(training, rows.labels.numpy())
        given = model.predict_proba(measured)
    probabilities = np.zeros((len(held_out), classes))
    probabilities[:, model.classes_] = given
    return probabilities


def _text_model(columns: list[str], rows: Rows, held_out: Rows) -> tuple[Any, Any, Any]:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    fewest = 1 if len(rows) < _FEW_ROWS else 2
    # Two classes have one coefficient for each word.
    most = min(_WORDS, _COEFFICIENTS // max(1, int(rows.labels.max())))
    longest = min(_CHARACTERS, max(1, _ALL_CHARACTERS // (len(rows) * len(columns))))
    weigh = TfidfVectorizer(ngram_range=(1, 2), min_df=fewest, sublinear_tf=True, max_features=most)
    training = weigh.fit_transform(_joined(columns, rows, longest))
    return LogisticRegression(C=10.0, max_iter=200), training, weigh.transform(_joined(columns, held_out, longest))


def _joined(columns: list[str], rows: Rows, longest: int) -> list[str]:
    texts = [text_values(rows.columns[name])[0] for name in columns]
    return ["\n".join(text[:longest] for text in row) for row in zip(*texts, strict=True)]


def _feature_model(
    features: list[str], categories: list[str], seed: int, rows: Rows, held_out: Rows
) -> tuple[Any, Any, Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    parts: tuple[list[Any], list[Any]] = ([], [])
    are_categories = []
    for name in features:
        training, measured = _read_feature(name, rows, held_out, is_category=name in categories)
        if np.nanmax(training, initial=-np.inf) > np.nanmin(training, initial=np.inf):  # else there is nothing to split
            parts[0].append(training)
            parts[1].append(measured)
            are_categories.append(name in categories)
    if not are_categories:
        raise ValueError("no feature has two different values")
    counts = rows.labels.bincount()
    classes = len(counts)
    rounds = min(_ROUNDS, max(2, _TREES // (classes if classes > 2 else 1)))
    model = HistGradientBoostingClassifier(
        categorical_features=are_categories,
        early_stopping=len(rows) > _ROWS // 2 and int(counts[counts > 0].min()) >= _ENOUGH,
        learning_rate=min(0.5, 10 / rounds),
        max_iter=rounds,
        random_state=seed % 2**32,
    )
    return model, np.stack(parts[0], axis=1), np.stack(parts[1], axis=1)


def _read_feature(
    name: str, rows: Rows, held_out: Rows, *, is_category: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return a feature of the training and the validation rows, NaN where missing or not a frequent category."""
    if is_category:
        numbers = _most_frequent(rows, name)
        return _numbered(numbers, rows, name), _numbered(numbers, held_out, name)
    first, second = (
        Imputer(np.nan).transform(part.columns[name], part.dialect).values.astype(np.float64)
        for part in (rows, held_out)
    )
    return first, second


def _numbered(numbers: Mapping[Any, int], rows: Rows, name: str) -> npt.NDArray[np.float64]:
    return np.array(
        [numbers.get(category_key(text), np.nan) for text in category_texts(rows.columns[name])], np.float64
    )


def _most_frequent(rows: Rows, name: str) -> dict[Any, int]:
    """Return the number of each of the most frequent categories of the training rows."""
    counts = Counter(map(category_key, category_texts(rows.columns[name])))
    ranked = sorted(counts, key=lambda key: (-counts[key], str(key)))
    return {key: number for number, key in enumerate(ranked[:_CATEGORIES])}
