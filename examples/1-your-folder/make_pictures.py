"""Draw 24 pictures of squares on a lawn, with labels, into ./pictures: a stand-in for a folder of yours."""

import random
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {0: (70, 140, 60), 1: (200, 40, 40)}  # lawn, square


def main() -> None:
    rng = random.Random(0)
    for index in range(24):
        picture, label = Image.new("RGB", (128, 64), COLOURS[0]), Image.new("L", (128, 64), 0)
        for _ in range(3):
            x, y, side = rng.randrange(110), rng.randrange(50), rng.randrange(8, 20)
            ImageDraw.Draw(picture).rectangle((x, y, x + side, y + side), COLOURS[1])
            ImageDraw.Draw(label).rectangle((x, y, x + side, y + side), 1)
        for kind, image in (("images", picture), ("labels", label)):
            folder = Path("pictures", kind)
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{index:03}.png")


if __name__ == "__main__":
    main()
