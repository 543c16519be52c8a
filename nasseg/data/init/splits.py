"""Plan the splits of pairs: by folders, by list files beside the data, or by holding images out."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nasseg.data.init.beside import split_lists
from nasseg.data.init.find_pairs import Pair, split_of
from nasseg.data.init.hold_out import hold_out
from nasseg.data.init.plan import Plan
from nasseg.errors import UserError


def plan_splits(
    plan: Plan, name: str, root: Path, pairs: Sequence[Pair], classes: Mapping[Path, Collection[Any]]
) -> None:
    """Fill the splits of a plan. classes: of the label files that were looked at.

    Raises:
        UserError: there is only one labelled image.
    """
    labels = {key: label for pair in pairs for key, (_, label) in zip(pair.keys, pair.files, strict=True)}
    images = {key: image for pair in pairs for key, (image, _) in zip(pair.keys, pair.files, strict=True)}
    folders: dict[str, list[Pair]] = {}
    for pair in pairs:
        folders.setdefault(split_of(pair.word), []).append(pair)
    if "train" not in folders:
        folders = {"train": folders.pop(next(iter(folders))), **folders}
    plan.splits = {split: _place(plan, found) for split, found in folders.items()}
    if {"val"} <= set(folders):
        return
    keys = [key for pair in folders["train"] for key in pair.keys]
    if len(folders) == 1:
        others = {key: path for pair in pairs for key, path in pair.unlabelled.items()}
        lists = split_lists(root, images | others, labels)
        if lists is not None:
            place = plan.splits["train"]
            below = {split: path.relative_to(root).as_posix() for split, path in lists.paths.items()}
            plan.splits = {split: place | {"list": path} for split, path in below.items()}
            plan.lines += [f"{split}: list {path}, {len(lists.keys[split]):,} images" for split, path in below.items()]
            if "val" in plan.splits:
                return
            keys = list(lists.keys["train"])
    hold_out_of_train(plan, name, keys, {key: classes.get(labels[key], ()) for key in keys})


def hold_out_of_train(plan: Plan, name: str, keys: Sequence[str], classes: Mapping[str, Collection[Any]]) -> None:
    """Split the keys of train into train and val, by list files beside the class table.

    Raises:
        UserError: there is only one labelled image.
    """
    if len(keys) < 2:
        raise UserError(
            f"one labelled image, {keys}, is not enough: at least one for training and one for validation are needed"
        )
    held, how = hold_out(keys, classes)
    place = {key: value for key, value in plan.splits["train"].items() if key != "list"}
    rest = {"train": sorted(set(keys) - set(held)), "val": held}
    plan.lists = {f"{name}-{split}.txt": "\n".join(part) + "\n" for split, part in rest.items()}
    own = {split: place | {"list": f"{name}-{split}.txt"} for split in rest}
    plan.splits = own | {split: part for split, part in plan.splits.items() if split not in own}
    plan.lines.append(how)


def _place(plan: Plan, pairs: Sequence[Pair]) -> dict[str, Any]:
    return {"folder": pairs[0].word} if "{split}" in plan.images else {}
