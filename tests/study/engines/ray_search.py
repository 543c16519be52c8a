"""Search on Ray, without a report: python -m tests.study.engines.ray_search STUDY STORAGE ADDRESS [TRIALS]."""

import sys

from nasseg.study.search.run_study import run_study
from nasseg.study.study_file import load_study


def search_on_ray(study, storage, address=None, trials=None, **options):
    return run_study(study, storage=storage, trials=trials, engine="ray", address=address, **options)


if __name__ == "__main__":
    name, storage, address, *trials = sys.argv[1:]
    command = " ".join(sys.argv)
    ended = search_on_ray(load_study(name), storage, address or None, *map(int, trials), command=command)
    print(ended.fault or ended.reason)
    sys.exit(2 if ended.fault else 0)
