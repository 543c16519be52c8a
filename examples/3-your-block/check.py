from my_block import LargeKernelArch

from nasseg.testing import check_family

check_family(LargeKernelArch, width=0.25, depth=2)
