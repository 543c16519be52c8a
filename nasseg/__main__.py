"""python -m nasseg"""

from nasseg.cli import main

main()
