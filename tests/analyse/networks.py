"""Networks and studies by hand, for the tests of what is computed of them."""

from nasseg.records import (
    Accuracy,
    AccuracyProtocol,
    Cost,
    CostProtocol,
    Environment,
    Latency,
    LatencyProtocol,
    Measurement,
    Objective,
    StudyRecord,
    TrialRow,
)

ENVIRONMENT = Environment(nasseg="0", commit=None, python="3", torch="2", system="s", cpu="c", cores=1)
COST = CostProtocol(input_size=(64, 128), num_classes=2)
LATENCY = LatencyProtocol(device="cpu", input_size=(64, 128), num_classes=2)
MIOU = Objective(name="miou", unit="%", direction="maximize")
MACS = Objective(name="macs", unit="", direction="minimize")
TIME = Objective(name="latency_ms", unit="ms", direction="minimize")


def network(number, params, miou, macs=1e6, *, time=None, iqr=0.0, seed=0, arch_id=None, **more):
    cost = Cost(
        protocol=COST,
        environment=ENVIRONMENT,
        params=int(macs / 100),
        macs=int(macs),
        fvcore_flops=int(macs),
        activations=1,
        field_of_view=31,
    )
    protocol = AccuracyProtocol(data="d", data_fingerprint="f", recipe="r", recipe_hash="h", steps=10, seed=seed)
    accuracy = Accuracy(
        protocol=protocol, environment=ENVIRONMENT, miou=miou, pixel_accuracy=90.0, class_iou={}, train_seconds=1.0
    )
    latency = None
    if time is not None:
        latency = Latency(
            protocol=LATENCY, environment=ENVIRONMENT, p50_ms=time, p90_ms=time, p99_ms=time, iqr_ms=iqr, n=25
        )
    m = Measurement(arch_id=arch_id or f"a{number}", cost=cost, accuracy=accuracy, latency=latency)
    values = {"miou": miou, "macs": float(int(macs)), **({"latency_ms": time} if time is not None else {})}
    row = {"state": "COMPLETE", "arch": {"family": params.get("family", "toy")}, "params": params, "values": values}
    return TrialRow(number=number, **{**row, "measurement": m, "seed": seed, **more})


def study(trials, objectives=(MIOU, MACS), **more):
    return StudyRecord(name="toy", question="?", objectives=objectives, trials=tuple(trials), **more)
