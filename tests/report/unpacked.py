"""What a page holds packed."""

import gzip
import re
from base64 import b64decode


def unpacked(page, name):
    return gzip.decompress(b64decode(re.search(rf'id="{name}">([^<]*)<', page)[1])).decode()
