"""Predict latency from an architecture's operators and measurements of other architectures on the same device.

A prediction ranks candidates and skips hopeless ones before they are measured. It is not a measurement and has its own
type (`Prediction`), so that it cannot be stored as one.

The model: a network takes the sum of its operators' times. An operator takes a time for the call, one for its
multiply-adds and one for the bytes it moves, each at its class's rate. The rates are at least 0 (non-negative least
squares on the relative error), so a prediction is never negative and grows with the network, even beyond the measured
range. On a CPU, fitted on 150 of five families and predicting 50 others, this is 3 % off, while multiply-adds alone are
25 % off, log-linear regression is 12 % off, and a kernel on the residual gains a tenth of a point.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any, Self

import numpy as np
from scipy.optimize import nnls
from scipy.stats import kendalltau

from nasseg.errors import UserError
from nasseg.families.graph.recorder import Graph, Operator
from nasseg.measure.cost import macs

MIN_FITTED = 30  # leaves 3.2 % of error on other networks of the same families; 100 leave 2.4 %, and 150 no less
FOLDS = 10
COVERAGE = 0.9
RIDGE = 1e-3
VECTOR = 16  # smallest number of channels that one instruction or tile computes, so 19 classes cost as much as 32
SMALL_MB = 0.1  # an operator without a class may move this much at the cost of its call

# Operators whose time depends on the bytes they move. Other kinds are classes of their own.
_CLASSES = {
    "batch_norm": "batch_norm",
    "cat": "cat",
    "interpolate": "interpolate",
    "grid_sample": "interpolate",
    "max_pool2d": "pooling",
    "avg_pool2d": "pooling",
    "adaptive_avg_pool2d": "pooling",
    "silu": "exponential",
    "sigmoid": "exponential",
    "softmax": "exponential",
    "gelu": "exponential",
    "relu": "elementwise",
    "hardtanh": "elementwise",
    "prelu": "elementwise",
    "hardswish": "elementwise",
    "hardsigmoid": "elementwise",
    "add": "elementwise",
    "sub": "elementwise",
    "mul": "elementwise",
    "div": "elementwise",
    "addcmul": "elementwise",
    "square": "elementwise",
}
_VIEWS = frozenset(
    {"chunk", "unbind", "split", "getitem", "expand", "permute", "transpose", "view", "reshape", "flatten", "unflatten"}
)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Milliseconds per batch, with an interval that holds the true value in the share of cases set for the fit.

    high_ms is infinite if the network has a class of operators (`unknown`) that no measured one had.
    """

    ms: float
    low_ms: float
    high_ms: float
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """A fitted model as plain data. Errors are cross-validated: on architectures left out of the fit, in FOLDS parts.

    rates: ms per unit of each feature (see `features`). low, high: factors from a prediction to its interval. mape:
    mean of |predicted / measured - 1|. kendall_tau: between predicted and measured order. n: networks fitted on.
    """

    image_shape: tuple[int, ...]
    rates: dict[str, float]
    low: float
    high: float
    n: int
    mape: float
    kendall_tau: float

    def predict(self, graph: Graph) -> Prediction:
        """Predict a network recorded at the input size of the measured ones.

        Raises:
            UserError: it was recorded at another size.
        """
        if graph.image_shape != self.image_shape:
            size, asked = (" x ".join(map(str, shape[-2:])) for shape in (self.image_shape, graph.image_shape))
            raise UserError(f"this predictor is fitted on latencies at {size}, got a network at {asked}; fit another")
        return self.predict_work(features(graph))

    def predict_work(self, found: Mapping[str, float]) -> Prediction:
        """Predict a network from its `features` at the input size of the measured ones."""
        unknown = tuple(sorted(name for name in found if name not in self.rates))
        ms = sum(self.rates.get(name, 0.0) * amount for name, amount in found.items())
        high = float("inf") if unknown else ms * self.high
        return Prediction(ms=ms, low_ms=ms * self.low, high_ms=high, unknown=unknown)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        plain: dict[str, Any] = json.loads(text)
        return cls(**{**plain, "image_shape": tuple(plain["image_shape"])})


def features(graph: Graph) -> dict[str, float]:
    """Return amounts of work: calls, and by class of operator `<class> gmacs` (10^9) and `<class> mb` (10^6 bytes).

    Convolutions are dense (1x1, or larger), grouped, depthwise or transposed; bytes are those of fp32 maps in and out.
    A dense convolution costs whole vectors of output channels. An eager CPU network moves its weights into another
    layout at each call, which dominates large late stages on small maps.
    """
    found: dict[str, float] = defaultdict(float)
    for operator in graph.reachable():
        found["calls"] += 1
        if operator.kind in _VIEWS:
            continue
        kind, count = _class(operator), macs(operator)
        moved = 4e-6 * sum(map(prod, operator.input_shapes + operator.output_shapes))
        if count or operator.kind in _CLASSES or moved > SMALL_MB:
            found[f"{kind} mb"] += moved
        if count:
            found["multiplying calls"] += 1
            found[f"{kind} gmacs"] += 1e-9 * count * (_padding(operator) if kind.startswith("dense") else 1)
            found["weights mb"] += 4e-6 * sum(prod(weight.shape) for weight in operator.weights if weight)
    return dict(found)


def _class(operator: Operator) -> str:
    if operator.kind != "conv":
        return operator.kind if macs(operator) else _CLASSES.get(operator.kind, operator.kind)
    channels, groups = operator.input_shapes[0][1], operator.attribute("groups")
    if groups == 1:
        area = macs(operator) // (prod(operator.output_shapes[0]) * channels)
        return "dense 1x1" if area == 1 else "dense"
    return "depthwise" if groups == channels else "grouped"


def _padding(operator: Operator) -> float:
    channels = operator.output_shapes[0][1]
    return ceil(channels / VECTOR) * VECTOR / channels


def fit(graphs: Sequence[Graph], latencies_ms: Sequence[float]) -> Predictor:
    """Fit a device's predictor to latencies of networks measured on it, all under one protocol.

    graphs: recorded at the protocol's input size. Leave out disturbed measurements.

    Raises:
        UserError: there are too few, their sizes differ, or a latency is not above 0.
    """
    shapes = {graph.image_shape for graph in graphs}
    if len(shapes) > 1:
        raise UserError(f"a predictor needs networks at one input size, got {sorted(shape[-2:] for shape in shapes)}")
    return fit_work([features(graph) for graph in graphs], latencies_ms, image_shape=next(iter(shapes), ()))


def fit_work(
    amounts: Sequence[Mapping[str, float]],
    latencies_ms: Sequence[float],
    *,
    image_shape: tuple[int, ...],
    coverage: float = COVERAGE,
) -> Predictor:
    """Fit a predictor to the networks' `features`. coverage: how often the true value must be inside the interval.

    The interval ends at measured ratios, so with few networks it is wide, not guessed.

    Raises:
        UserError: as `fit`.
    """
    latencies = np.asarray(latencies_ms, dtype=float)
    if len(amounts) != len(latencies):
        raise UserError(f"every network needs its latency, got {len(amounts)} networks and {len(latencies)} latencies")
    if len(amounts) < MIN_FITTED:
        raise UserError(f"a predictor needs {MIN_FITTED} measured networks, got {len(amounts)}; measure more first")
    if not (np.isfinite(latencies).all() and (latencies > 0).all()):
        raise UserError(f"latencies must be above 0 ms, got {latencies[~(latencies > 0) | ~np.isfinite(latencies)][0]}")
    names = sorted({name for found in amounts for name in found})
    table = np.array([[found.get(name, 0.0) for name in names] for found in amounts])
    left_out = np.empty(len(latencies))
    fold = np.random.default_rng(0).permutation(len(latencies)) % FOLDS
    for number in range(FOLDS):
        held, rest = fold == number, fold != number
        left_out[held] = table[held] @ _rates(table[rest], latencies[rest])
    ratios = latencies / left_out
    low = np.quantile(ratios, (1 - coverage) / 2, method="lower")
    high = np.quantile(ratios, (1 + coverage) / 2, method="higher")
    rates = _rates(table, latencies)
    return Predictor(
        image_shape=image_shape,
        rates={name: float(rate) for name, rate in zip(names, rates, strict=True)},
        low=min(1.0, float(low)),
        high=max(1.0, float(high)),
        n=len(latencies),
        mape=float(np.mean(np.abs(left_out / latencies - 1))),
        kendall_tau=float(kendalltau(left_out, latencies).statistic),
    )


def _rates(table: np.ndarray, latencies: np.ndarray) -> np.ndarray:
    """Return non-negative rates [features] for which table @ rates / latencies is near 1.

    A ridge penalty keeps small shares small.
    """
    shares = table / latencies[:, None]
    scale = np.sqrt(np.mean(shares**2, axis=0))
    scale[scale == 0] = 1
    ridge = np.sqrt(RIDGE * len(latencies)) * np.eye(table.shape[1])
    wanted = np.concatenate([np.ones(len(latencies)), np.zeros(table.shape[1])])
    rates, _ = nnls(np.vstack([shares / scale, ridge]), wanted)
    return np.asarray(rates / scale)
