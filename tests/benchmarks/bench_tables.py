"""Write what the papers' tables on CamVid say into reports/camvid-tables/README.md. It trains nothing.

    python -m tests.benchmarks.bench_tables

after the trainings that the README names, whose results are in trainings.log. A table that is not trained is left out.
"""

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.written import write_between_marks

FOLDER = Path("reports/camvid-tables")
TABLES = ("regseg-4", "bisenetv2-2", "stdc-4", "regseg-7", "dabnet-2a", "eseg-2")


def main() -> None:
    texts = []
    for name in TABLES:
        command = [sys.executable, "-m", "nasseg", "reproduce", str(FOLDER / f"{name}.yaml"), "--format", "markdown"]
        storage = ["--storage", str(FOLDER / "trainings.log")]
        found = subprocess.run([*command, *storage], check=True, capture_output=True, text=True).stdout
        if "steps): " in found:
            texts.append(found.replace("\n## ", "\n### ").replace("## ", "### ", 1).strip())
    write_between_marks(FOLDER / "README.md", "bench_tables", "\n\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
