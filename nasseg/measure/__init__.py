"""Measuring: cost, latency, accuracy.

Large CPU tensors get huge pages (Linux; torch reads the variable at its first large allocation). With small pages, the
same network can be a third slower in one process than in the next, depending on the physical pages it gets: BiSeNetV2
at half width, 256 x 512, took 35 to 50 ms over 32 builds, and 35 to 38 with huge pages.
"""

import os

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
