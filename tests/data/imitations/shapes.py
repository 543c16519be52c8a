"""Labels as shapes in files of labelling tools."""

import base64
import io
import json
import zlib

import numpy as np
from PIL import Image

from tests.data.imitations.drawing import KEYS, SIZE, Truth, boxes, label_of, photo, text


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
