"""Tiny imitations of data sets as people have them: pictures of blobs, and what each tool makes of their labels.

Each function writes a folder and returns what must be read from it: of each image, its true classes.
"""

import base64
import io
import json
import zlib
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

SIZE = (96, 128)
KEYS = [f"{number:03d}" for number in range(1, 11)]


@dataclass
class Truth:
    """What is right. names: of classes in order, where they are known; labels: by the image's path below the root."""

    labels: dict[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    splits: dict[str, int] = field(default_factory=dict)


def boxes(key, count):
    """Rectangles [left, top, right, bottom] of the classes 1..count - 1, apart from each other and of even sizes."""
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    found = []
    for number in range(1, count):
        left = 8 + (number - 1) * (SIZE[1] - 16) // (count - 1)
        width = (SIZE[1] - 16) // (count - 1) - 8
        top = int(rng.integers(8, 30))
        found.append((left, top, left + width, top + int(rng.integers(40, 55))))
    return found


def label_of(key, count=2):
    """Class 0 with a rectangle of each other class."""
    label = np.zeros(SIZE, np.uint8)
    for number, (left, top, right, bottom) in enumerate(boxes(key, count), 1):
        label[top:bottom, left:right] = number
    return label


def photo(path, label, **options):
    """A picture in which classes differ a little in colour, with noise."""
    rng = np.random.default_rng(zlib.crc32(str(path).encode()))
    base = rng.integers(0, 255, (6, 8, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(base).resize(label.shape[::-1], Image.Resampling.BICUBIC), np.int16)
    pixels = smooth // 2 + 40 * label[..., None].astype(np.int16) + rng.integers(0, 40, (*label.shape, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, **options)


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(picture)
    picture.save(path, **options)


def text(path, content, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode(encoding))


def grey(label, edges=False):
    """0 and 255; with edges as drawn four times as large and made smaller."""
    picture = Image.fromarray(label * np.uint8(255))
    if edges:
        turned = picture.resize((512, 384), Image.Resampling.NEAREST).rotate(3, fillcolor=0)
        return turned.resize((128, 96), Image.Resampling.BOX)
    return picture


def pairs(root, write, images="images/{key}.jpg", labels="masks/{key}.png", count=2, keys=KEYS, names=()):
    """A picture and a label for each key; write(label, path, key) may return another truth."""
    truth = Truth(names=names, splits={"train": len(keys) * 4 // 5, "val": len(keys) // 5})
    for key in keys:
        label = label_of(key, count)
        path = root / images.format(key=key)
        changed = write(label, root / labels.format(key=key), key)
        label = label if changed is None else changed
        photo(path, label)
        truth.labels[images.format(key=key)] = label
    return truth


# --- masks of two values ------------------------------------------------------------------------------------------


def binary_255(root):
    return pairs(root, lambda label, path, _: save(grey(label), path))


def binary_01(root):
    return pairs(root, lambda label, path, _: save(label, path))


def binary_grey_edges(root):
    """The truth is the half that is brighter than 127."""

    def write(label, path, _):
        save(grey(label, edges=True), path)
        return (np.asarray(grey(label, edges=True)) > 127).astype(np.uint8)

    return pairs(root, write)


def binary_jpeg(root):
    return pairs(root, lambda label, path, _: save(grey(label), path, quality=80), labels="masks/{key}.jpg")


def binary_jpeg_rgb(root):
    return pairs(
        root, lambda label, path, _: save(grey(label).convert("RGB"), path, quality=75), labels="masks/{key}_mask.jpg"
    )


def binary_gif(root):
    """Palettes that differ: black is 0 in one file, 1 in the next."""

    def write(label, path, key):
        palette = [(0, 0, 0), (255, 255, 255)] if int(key) % 2 else [(255, 255, 255), (0, 0, 0)]
        picture = Image.fromarray(label if int(key) % 2 else 1 - label).convert("P")
        picture.putpalette([part for colour in palette for part in colour])
        save(picture, path)

    return pairs(root, write, labels="masks/{key}_mask.gif")


def binary_one_bit(root):
    return pairs(root, lambda label, path, _: save(Image.fromarray(label * np.uint8(255)).convert("1"), path))


def binary_16_bit(root):
    return pairs(root, lambda label, path, _: save(label.astype(np.uint16) * 65535, path))


def binary_with_alpha(root):
    return pairs(root, lambda label, path, _: save(grey(label).convert("LA"), path))


def binary_rgba(root):
    return pairs(root, lambda label, path, _: save(grey(label).convert("RGBA"), path))


def binary_in_alpha(root):
    def write(label, path, _):
        rgba = np.full((*SIZE, 4), 255, np.uint8)
        rgba[..., 3] = label * 255
        save(rgba, path)

    return pairs(root, write)


def binary_palette(root):
    def write(label, path, _):
        picture = Image.fromarray(label).convert("P")
        picture.putpalette([0, 0, 0, 128, 0, 0])
        save(picture, path)

    return pairs(root, write)


# --- more values --------------------------------------------------------------------------------------------------


def three_greys(root):
    return pairs(root, lambda label, path, _: save(np.array([0, 127, 255], np.uint8)[label], path), count=3)


def three_greys_jpeg(root):
    return pairs(
        root,
        lambda label, path, _: save(np.array([0, 127, 255], np.uint8)[label], path, quality=85),
        labels="masks/{key}.jpg",
        count=3,
    )


COLOURS = np.array([(0, 0, 0), (200, 30, 30), (30, 60, 220)], np.uint8)


def by_colour(truth):
    """Classes without names are in the order of their colours."""
    order = np.array([0, 2, 1], np.uint8)
    truth.labels = {name: order[label] for name, label in truth.labels.items()}
    return truth


def colours_on_black(root):
    return by_colour(pairs(root, lambda label, path, _: save(COLOURS[label], path), count=3))


def colours_jpeg(root):
    def write(label, path, _):
        save(COLOURS[label], path, quality=90, subsampling=0)

    return by_colour(pairs(root, write, labels="masks/{key}.jpg", count=3))


def class_dict(root):
    truth = pairs(root, lambda label, path, _: save(COLOURS[label], path), count=3, labels="masks/{key}_L.png")
    rows = ("name,r,g,b", "road,0,0,0", "car,200,30,30", "traffic light,30,60,220")
    text(root / "class_dict.csv", "\r\n".join(rows), "utf-8-sig")
    truth.names = ("road", "traffic light", "car")
    return by_colour(truth)


def ids_with_void(root):
    def write(label, path, _):
        label = label.copy()
        label[:3] = 255
        save(label, path)
        return label

    truth = pairs(root, write, count=3)
    text(root / "classes.txt", "sky\nroad\ntree\n", "utf-16")
    truth.names = ("sky", "road", "tree")
    return truth


# --- names --------------------------------------------------------------------------------------------------------


def named(images, labels):
    return lambda root: pairs(root, lambda label, path, _: save(label, path), images, labels, count=3)


names_at_the_start = named("images/img_{key}.jpg", "masks/mask_{key}.png")
names_at_the_end = named("data/{key}_img.png", "data/{key}_mask.png")
names_in_case = named("Images/SCENE{key}.JPG", "Labels/scene{key}.png")
names_ome = named("raw/{key}.ome.tif", "raw/{key}_labels.png")
names_twice = named("images/{key}.png", "images/{key}_mask.png")


def roboflow_masks(root):
    """PNG export of semantic segmentation: pictures and masks in one folder by split, classes in a CSV file."""
    truth = Truth(names=("background", "crack", "hole"), splits={"train": 6, "val": 2, "test": 2})
    for place, key in enumerate(KEYS):
        folder = "train" if place < 6 else "valid" if place < 8 else "test"
        label = label_of(key, 3)
        name = f"{folder}/{key}_jpg.rf.{zlib.crc32(key.encode()):08x}{'abcdef01' * 2}"
        photo(root / f"{name}.jpg", label)
        save(label, root / f"{name}_mask.png")
        truth.labels[f"{name}.jpg"] = label
    for folder in ("train", "valid", "test"):
        text(root / folder / "_classes.csv", "Pixel Value, Class\n0, background\n1, crack\n2, hole\n")
    return truth


def sequences(root):
    """Frames of five drives; those of one must stay on one side."""
    keys = [f"{drive}_{frame:04d}" for drive in ("alpha", "beta", "gamma", "delta", "omega") for frame in range(3, 7)]
    truth = pairs(root, lambda label, path, _: save(label, path), count=3, keys=keys)
    truth.splits = {"train": 16, "val": 4}
    return truth


# --- labels for some ----------------------------------------------------------------------------------------------


def voc(root):
    """VOC2012 as downloaded: labels for some, instances beside them, lists of the labelled, boxes of all."""
    home = root / "VOCdevkit/VOC2012"
    palette = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    truth = Truth(splits={"train": 6, "val": 4})
    for number in range(24):
        key = f"2007_{number:06d}"
        label = label_of(key, 3)
        photo(home / f"JPEGImages/{key}.jpg", label)
        text(home / f"Annotations/{key}.xml", "<annotation><object><name>cat</name></object></annotation>")
        if number % 2 and number < 20:
            label[10] = 255
            for folder, stored in (("SegmentationClass", label), ("SegmentationObject", np.minimum(label, 1))):
                picture = Image.fromarray(stored).convert("P")
                picture.putpalette([*palette, *[7] * (253 * 3)])
                save(picture, home / f"{folder}/{key}.png")
            truth.labels[f"VOCdevkit/VOC2012/JPEGImages/{key}.jpg"] = label
    keys = [path.rpartition("/")[2][:-4] for path in sorted(truth.labels)]
    for split, names in (("train", keys[:6]), ("val", keys[6:]), ("trainval", keys)):
        text(home / f"ImageSets/Segmentation/{split}.txt", "".join(f"{name}\n" for name in names))
        text(home / f"ImageSets/Main/cat_{split}.txt", "".join(f"{name}  -1\n" for name in names))
    return truth


def half_labelled(root):
    truth = pairs(root, lambda label, path, _: save(label, path))
    for number in range(5):
        photo(root / f"images/new{number}.jpg", label_of(f"new{number}"))
    return truth


def csv_lists(root):
    truth = pairs(root, lambda label, path, _: save(label, path))
    rows = {"train": KEYS[:7], "valid": KEYS[7:]}
    for split, keys in rows.items():
        lines = [f"images/{key}.jpg,masks/{key}.png" for key in keys]
        text(root / f"{split}.csv", "\r\n".join(["image,mask", *lines]))
    truth.splits = {"train": 7, "val": 3}
    return truth


# --- shapes -------------------------------------------------------------------------------------------------------


def corners(left, top, right, bottom):
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def flat(left, top, right, bottom):
    return [value for corner in corners(left, top, right, bottom) for value in corner]


def coco(root):
    """COCO's folders: two splits, a small shape in a large one, run lengths, and a category without a shape."""
    truth = Truth(names=("background", "lake", "boat"), splits={"train": 7, "val": 3})
    categories = [{"id": 18, "name": "boat"}, {"id": 3, "name": "lake"}, {"id": 90, "name": "unicorn"}]
    for split, keys in (("train2017", KEYS[:7]), ("val2017", KEYS[7:])):
        images, rows = [], []
        for number, key in enumerate(keys):
            left, top, right, bottom = boxes(key, 2)[0]
            label = label_of(key)
            inner = (left + 20, top + 10, left + 40, top + 30)
            label[inner[1] : inner[3], inner[0] : inner[2]] = 2
            images.append({"id": number, "file_name": f"{key}.jpg", "height": SIZE[0], "width": SIZE[1]})
            run = np.zeros(SIZE, np.uint8)
            run[inner[1] : inner[3], inner[0] : inner[2]] = 1
            column = run.T.ravel()
            change = np.flatnonzero(np.diff(column)) + 1
            counts = np.diff([0, *change, len(column)]).tolist()
            shapes = [
                ({"counts": counts, "size": list(SIZE)}, 18, 1),
                ([flat(left, top, right, bottom)], 3, 0),
            ]
            for shape, category, crowd in shapes:
                row = {"id": len(rows), "image_id": number, "category_id": category, "iscrowd": crowd}
                rows.append(row | {"segmentation": shape, "area": 1})
            photo(root / f"{split}/{key}.jpg", label)
            truth.labels[f"{split}/{key}.jpg"] = label
        content = {"images": images, "annotations": rows, "categories": categories}
        text(root / f"annotations/instances_{split}.json", json.dumps(content))
        captions = [{"image_id": 0, "id": 0, "caption": "a boat"}]
        text(root / f"annotations/captions_{split}.json", json.dumps({"images": images, "annotations": captions}))
    return truth


def roboflow_coco(root):
    """One folder a split, which holds images and `_annotations.coco.json`; one image has no shape."""
    truth = Truth(names=("background", "pear"), splits={"train": 7, "val": 3})
    for split, keys in (("train", KEYS[:7]), ("valid", KEYS[7:])):
        images, rows = [], []
        for number, key in enumerate(keys):
            label = label_of(key)
            images.append({"id": number, "file_name": f"{key}.jpg", "height": SIZE[0], "width": SIZE[1]})
            if number:
                shape = [flat(*boxes(key, 2)[0])]
                rows.append({"id": number, "image_id": number, "category_id": 1, "segmentation": shape, "iscrowd": 0})
            else:
                label = np.zeros_like(label)
            photo(root / f"{split}/{key}.jpg", label)
            truth.labels[f"{split}/{key}.jpg"] = label
        content = {
            "images": images,
            "annotations": rows,
            "categories": [{"id": 0, "name": "fruit"}, {"id": 1, "name": "pear"}],
        }
        text(root / f"{split}/_annotations.coco.json", json.dumps(content))
    return truth


def yolo(root):
    """images/ and labels/ by split, the names in data.yaml; a box besides polygons."""
    truth = Truth(names=("background", "cat", "dog"), splits={"train": 7, "val": 3})
    for split, keys in (("train", KEYS[:7]), ("val", KEYS[7:])):
        for key in keys:
            label, lines = label_of(key, 3), []
            for number, (left, top, right, bottom) in enumerate(boxes(key, 3)):
                if number:
                    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
                else:
                    values = flat(left, top, right, bottom)
                scaled = [value / SIZE[1 - place % 2] for place, value in enumerate(values)]
                lines.append(f"{number} " + " ".join(f"{value:.6f}" for value in scaled))
            photo(root / f"images/{split}/{key}.jpg", label)
            text(root / f"labels/{split}/{key}.txt", "\r\n".join(lines))
            truth.labels[f"images/{split}/{key}.jpg"] = label
    text(root / "data.yaml", "train: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n")
    return truth


def labelme(root):
    """JSON beside the images; a later shape lies over an earlier one; a rectangle, a point."""
    truth = Truth(names=("background", "leaf", "spot"), splits={"train": 8, "val": 2})
    for key in KEYS:
        label = label_of(key)
        left, top, right, bottom = boxes(key, 2)[0]
        inner = (left + 4, top + 4, left + 90, top + 20)
        label[inner[1] : inner[3], inner[0] : inner[2]] = 2
        shapes = [
            {"label": "leaf", "points": corners(left, top, right, bottom), "shape_type": "polygon"},
            {"label": "spot", "points": [inner[:2], inner[2:]], "shape_type": "rectangle"},
            {"label": "leaf", "points": [[3, 3]], "shape_type": "point"},
        ]
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": f"{key}.jpg",
            "imageData": None,
            "imageHeight": SIZE[0],
            "imageWidth": SIZE[1],
        }
        photo(root / f"{key}.jpg", label)
        text(root / f"{key}.json", json.dumps(content, indent=1))
        truth.labels[f"{key}.jpg"] = label
    return truth


def cvat(root):
    """CVAT for images 1.1: z_order decides, and a mask of run lengths."""
    truth = Truth(names=("background", "ship", "wake"), splits={"train": 8, "val": 2})
    rows = []
    for number, key in enumerate(KEYS):
        label = label_of(key)
        left, top, right, bottom = boxes(key, 2)[0]
        label[top + 4 : top + 14, left + 4 : left + 24] = 2
        points = ";".join(f"{x:.2f},{y:.2f}" for x, y in corners(left, top, right, bottom))
        rows.append(
            f'<image id="{number}" name="{key}.jpg" width="{SIZE[1]}" height="{SIZE[0]}">'
            f'<mask label="wake" rle="0, 200" left="{left + 4}" top="{top + 4}" width="20" height="10" z_order="1"/>'
            f'<polygon label="ship" points="{points}" z_order="0"/></image>'
        )
        photo(root / f"images/{key}.jpg", label)
        truth.labels[f"images/{key}.jpg"] = label
    labels = "".join(f"<label><name>{name}</name></label>" for name in ("ship", "wake"))
    head = f"<version>1.1</version><meta><job><labels>{labels}</labels></job></meta>"
    text(root / "annotations.xml", f"<?xml version='1.0'?><annotations>{head}{''.join(rows)}</annotations>")
    return truth


def supervisely(root):
    """img/ and ann/ of a data set: a polygon with a hole, and a bitmap."""
    truth = Truth(names=("background", "kiwi", "ring"), splits={"train": 8, "val": 2})
    for key in KEYS:
        label = label_of(key)
        left, top, right, bottom = boxes(key, 2)[0]
        label[label == 1] = 2
        label[top + 10 : top + 30, left + 10 : left + 50] = 0
        label[2:6, 3:33] = 1
        file = io.BytesIO()
        Image.fromarray(np.ones((4, 30), bool)).save(file, "PNG")
        objects = [
            {
                "classTitle": "ring",
                "geometryType": "polygon",
                "points": {
                    "exterior": corners(left, top, right, bottom),
                    "interior": [corners(left + 10, top + 10, left + 50, top + 30)],
                },
            },
            {
                "classTitle": "kiwi",
                "geometryType": "bitmap",
                "bitmap": {"origin": [3, 2], "data": base64.b64encode(zlib.compress(file.getvalue())).decode()},
            },
        ]
        photo(root / f"fruit/img/{key}.jpg", label)
        content = {"description": "", "tags": [], "size": {"height": SIZE[0], "width": SIZE[1]}, "objects": objects}
        text(root / f"fruit/ann/{key}.jpg.json", json.dumps(content))
        truth.labels[f"fruit/img/{key}.jpg"] = label
    text(root / "meta.json", json.dumps({"classes": [{"title": "ring", "shape": "polygon"}], "tags": []}))
    return truth


FORMS = {
    "masks of 0 and 255": binary_255,
    "masks of 0 and 1": binary_01,
    "masks with grey edges": binary_grey_edges,
    "masks as JPEG": binary_jpeg,
    "masks as colour JPEG, `_mask`": binary_jpeg_rgb,
    "masks as GIF, each with its palette": binary_gif,
    "masks of one bit": binary_one_bit,
    "masks of 16 bits, 0 and 65535": binary_16_bit,
    "masks with alpha (LA)": binary_with_alpha,
    "masks with alpha (RGBA)": binary_rgba,
    "masks in the alpha channel": binary_in_alpha,
    "masks with a palette": binary_palette,
    "masks of 0, 127, 255": three_greys,
    "masks of 0, 127, 255 as JPEG": three_greys_jpeg,
    "colours on black": colours_on_black,
    "colours as JPEG": colours_jpeg,
    "colours with class_dict.csv": class_dict,
    "numbers, 255 for none, classes.txt in UTF-16": ids_with_void,
    "img_001 and mask_001": names_at_the_start,
    "001_img and 001_mask in one folder": names_at_the_end,
    "names that differ in case and suffix": names_in_case,
    "001.ome.tif and 001_labels.png": names_ome,
    "001.png and 001_mask.png in one folder": names_twice,
    "Roboflow, semantic masks": roboflow_masks,
    "frames of five drives": sequences,
    "VOC2012": voc,
    "labels for some": half_labelled,
    "lists in CSV": csv_lists,
    "COCO JSON": coco,
    "Roboflow, COCO JSON": roboflow_coco,
    "YOLO segmentation": yolo,
    "labelme JSON": labelme,
    "CVAT XML": cvat,
    "Supervisely": supervisely,
}
