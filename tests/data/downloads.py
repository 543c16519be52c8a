"""Tiny fakes of public data sets: folders, file names and label encodings are the real ones."""

import numpy as np
from PIL import Image
from scipy.io import savemat

from nasseg.data.class_table import shipped_table

RNG = np.random.default_rng(0)


def picture(path, size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


def labels(path, stored):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored.astype(np.uint8)).save(path)


def spread(values, size):
    """All of the values, in turn."""
    return np.resize(np.array(values), size)


CITY_IDS = [0, 1, 7, 8, 11, 19, 29, 33]
CITY_CLASSES = [255, 255, 0, 1, 2, 6, 255, 18]


def cityscapes(root, size=(32, 64), kind="labelIds", coarse=False):
    """Ids 0..33; train ids 0..18 and 255. `test` has images, and labels without a class."""
    for split, city, frames in (("train", "aachen", 2), ("train", "ulm", 1), ("val", "lindau", 2), ("test", "bonn", 1)):
        for frame in range(frames):
            stem = f"{city}_{frame:06d}_000019"
            picture(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", size)
            folder = root / f"gtFine/{split}/{city}"
            stored = spread([0, 1] if split == "test" else CITY_IDS, size)
            if kind == "labelTrainIds" and split != "test":
                stored = spread(CITY_CLASSES, size)
            labels(folder / f"{stem}_gtFine_{kind}.png", stored)
            picture(folder / f"{stem}_gtFine_color.png", size)
            (folder / f"{stem}_gtFine_polygons.json").write_text("{}")
    if coarse:
        for split, city in (("train", "aachen"), ("train", "ulm"), ("train_extra", "erlangen")):
            for frame in range(2 if city == "aachen" else 1):
                stem = f"{city}_{frame:06d}_000019"
                picture(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", size)
                labels(root / f"gtCoarse/{split}/{city}/{stem}_gtCoarse_labelIds.png", spread([0, 7, 26], size))
    return root


def camvid(root, suffix="png", count=3, size=(24, 32), splits=("train", "val"), top=12):
    """The SegNet tutorial's: class numbers, 11 for void."""
    rng = np.random.default_rng(0)
    for split in splits:
        for number in range(count):
            image, label = rng.integers(0, 255, (*size, 3), np.uint8), rng.integers(0, top, size, np.uint8)
            for folder, content, ending in ((split, image, suffix), (f"{split}annot", label, "png")):
                (root / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(content).save(root / folder / f"f{number}.{ending}")
    return root


CAMVID_COLOURS = [(128, 128, 128), (0, 0, 192), (0, 128, 192), (0, 0, 0), (192, 64, 128)]
CAMVID_CLASSES = [0, 4, 10, 255, 255]


def camvid_colours(root, size=(30, 40), download=False):
    """The original: 32 colours, five of them here."""
    names = {"train": ["0001TP_006690", "0006R0_f00930"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}
    for split, stems in names.items():
        for stem in stems:
            folder = ("701_StillsRaw_full", "LabeledApproved_full") if download else (split, f"{split}_labels")
            picture(root / folder[0] / f"{stem}.png", size)
            colours = np.array(CAMVID_COLOURS)[spread(range(5), size)]
            labels(root / folder[1] / f"{stem}_L.png", colours)
    return root


def ade20k(root, sizes=((40, 60), (50, 40), (33, 70))):
    """0 is none of the classes, 1..150; images of many sizes, inside of the folder that the archive holds."""
    root = root / "ADEChallengeData2016"
    for split, stem, count in (("training", "ADE_train", 3), ("validation", "ADE_val", 2)):
        for number in range(count):
            picture(root / f"images/{split}/{stem}_{number:08d}.jpg", sizes[number])
            labels(root / f"annotations/{split}/{stem}_{number:08d}.png", spread(range(151), sizes[number]))
    return root.parent


def coco_ids():
    return [row.ids[0] for row in shipped_table("coco-stuff").classes]


def coco164k(root, size=(36, 48)):
    """Ids 0..181 with gaps, 255 where unlabelled; beside some the train ids that other tools write."""
    for split, count in (("train2017", 2), ("val2017", 1)):
        for number in range(count):
            stem = f"{number + 9:012d}"
            picture(root / f"images/{split}/{stem}.jpg", size)
            labels(root / f"annotations/{split}/{stem}.png", spread([*coco_ids(), 255], size))
            labels(root / f"annotations/{split}/{stem}_labelTrainIds.png", spread([*range(171), 255], size))
    return root


def coco10k(root, size=(36, 48)):
    """Ids plus one in MATLAB files, 0 where unlabelled; the splits in lists of names."""
    stems = [f"COCO_train2014_{number:012d}" for number in (77, 81, 109)]
    for stem in stems:
        picture(root / f"images/{stem}.jpg", size)
        (root / "annotations").mkdir(exist_ok=True)
        stored = spread([0, *(i + 1 for i in coco_ids())], size)
        savemat(root / f"annotations/{stem}.mat", {"S": stored.astype(np.uint8), "captions": ["a street"]})
    (root / "imageLists").mkdir()
    (root / "imageLists/train.txt").write_text("\n".join(stems[:2]) + "\n")
    (root / "imageLists/test.txt").write_text(stems[2] + "\n")
    return root
