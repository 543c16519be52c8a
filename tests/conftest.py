"""No test writes outside its own folders: the cache of decoded images is one of the run's."""

import os
import tempfile

os.environ.setdefault("NASSEG_CACHE", os.path.join(tempfile.gettempdir(), "nasseg-test-cache"))
