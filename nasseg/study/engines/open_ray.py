"""Open the Ray engine. Ray is imported only when it is opened."""

import os

from nasseg.errors import UserError
from nasseg.study.engines.engine import OpenEngine, Setup

_RAY_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # hide Ray's own lines: what matters to a search comes as an error
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # else it prints stacks at SIGTERM
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # seconds at SIGTERM, for a node that serves requests
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # with the default of 15, latencies would wait for other programs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


def open_ray(setup: Setup) -> OpenEngine:
    """Connect to a Ray cluster, or start one here.

    Raises:
        UserError: Ray is not installed, or the cluster cannot run this study.
    """
    for key, value in _RAY_SETTINGS.items():
        os.environ.setdefault(key, value)  # before importing Ray, which reads them
    try:
        from nasseg.study.engines.ray_engine import RayEngine
    except ImportError as error:
        raise UserError(f"the engine ray needs Ray ({error}): pip install 'nasseg[ray]'") from None
    engine = RayEngine(
        setup.context,
        storage=setup.storage,
        address=setup.address,
        resources=setup.resources,
        workers=setup.workers,
        on_step=setup.on_step,
        tell=setup.tell,
        callbacks=setup.callbacks,
    )
    return OpenEngine(engine, engine.latency_device)
