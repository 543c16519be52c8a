"""Find images and their labels in a folder without a description: two patterns of paths with the same names."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nasseg.data.init.label_look import LabelLook
from nasseg.data.list_files import PICTURES, list_pictures
from nasseg.errors import UserError

WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_ANY = "|".join(sorted(WORDS, key=len, reverse=True))
# `train`, `training_images`, `trainannot`, `train2017`, but not `trainer`.
_SPLIT = re.compile(
    rf"^(?:{_ANY})(?=$|[^a-z]|annot|anno|label|mask|image|img|gt|seg|set|data)|(?<=[_\- ])(?:{_ANY})$", re.IGNORECASE
)
_SHARE = 0.2  # an affix counts if this share of a folder's files has it
_FORMS = 5  # affixes of each kind
# Pictures beside labels that are not labels: instances, edges, depth, and colours for the eye if there are numbers too.
_OTHER = re.compile(r"inst|object|edge|bound|depth|dispar|overlay|preview|vis(?![a-z])|colou?r|trimap", re.IGNORECASE)
_IMAGE = re.compile(r"(?<![a-z])(?:images?|imgs?|jpegimages|rgb|photos?|pictures?|leftimg8bit|raw|x)(?![a-z])", re.I)
_LABEL = re.compile(
    r"label|mask|annot|segm|(?<![a-z])(?:seg|gt|anno|ann|l|y|target|truth|groundtruth|matte|gtfine)(?![a-z])", re.I
)


@dataclass(frozen=True)
class Form:
    """Files of a folder with one pattern: how their names begin and end, and their suffix ("" for any).

    by_key: key -> file.
    """

    folder: str
    head: str
    tail: str
    suffix: str
    by_key: dict[str, Path] = field(hash=False)

    @property
    def template(self) -> str:
        """The pattern below the root, without a suffix if any will do."""
        name = f"{self.head}{{name}}{self.tail}{self.suffix}"
        return name if self.folder == "." else f"{self.folder}/{name}"

    @property
    def hint(self) -> int:
        """1 if the words are those of labels, -1 if those of images, 0 otherwise."""
        text = re.sub(r"\{\w+\}", "", self.template)
        return bool(_LABEL.search(text)) - bool(_IMAGE.search(text))


@dataclass(frozen=True)
class Pair:
    """Templates of images and labels, the folders' word for the split, the keys, and the files.

    unlabelled: images with this pattern but without a label, by key.
    """

    images: str
    labels: str
    word: str
    keys: tuple[str, ...]
    files: tuple[tuple[Path, Path], ...]
    unlabelled: dict[str, Path] = field(hash=False)


def find_pairs(root: Path, shapes: Sequence[Path] = ()) -> tuple[list[Pair], list[str]]:
    """Return images with their labels, all of one pattern, and the findings in words.

    shapes: the labels, if they are no pictures.

    Raises:
        UserError: there are none.
    """
    folders = _by_folder(root, list_pictures(root))
    images = {folder: list(_forms(folder, files)) for folder, files in folders.items()}
    labels = images
    if shapes:
        labels = {folder: list(_forms(folder, files)) for folder, files in _by_folder(root, shapes).items()}
    look = None if shapes else LabelLook()
    pairs = [pair for folder in images for pair in _best_of(images[folder], labels, folder, look)]
    if not pairs:
        if not folders:
            raise UserError(f"{root} holds no pictures: --data is the folder that holds images and labels")
        named = ["the folder itself" if folder == "." else folder for folder in sorted(folders)]
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        raise UserError(
            f"{root} holds pictures (in {', '.join(named[:5])}{more}), but no images and labels of the same names: "
            "labels are pictures with one value or colour for each class, or shapes (COCO, YOLO, labelme, CVAT, "
            "Supervisely); --data is the folder that holds both. For another form write a class table by hand, see "
            "docs/guide/extending.md"
        )
    merged = _with_groups(pairs)
    counts: Counter[tuple[str, str]] = Counter()
    for pair in merged:
        counts[pair.images, pair.labels] += len(pair.keys)
    chosen, _ = counts.most_common(1)[0]
    found = [f"images {chosen[0]}, labels {chosen[1]}"]
    others = [f"{images} with {labels}" for images, labels in counts if images not in chosen]
    if others:
        found.append(f"left out, because they follow another pattern: {', '.join(others)}")
    return [pair for pair in merged if (pair.images, pair.labels) == chosen], found


def _by_folder(root: Path, files: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in files:
        found[path.parent.relative_to(root).as_posix()].append(path)
    return found


def _stem(path: Path) -> str:
    """Return a name without its suffix, and `a` of `a.jpg.json`, as some tools call the label of a.jpg."""
    stem = Path(path.stem)
    return stem.stem if path.suffix.lower() not in PICTURES and stem.suffix.lower() in PICTURES else stem.name


def _forms(folder: str, files: Sequence[Path]) -> Iterator[Form]:
    """Yield the patterns that many files of a folder share, first the pattern of all files."""
    needed = max(1, round(_SHARE * len(files)))
    suffixes = Counter(path.suffix for path in files)
    kinds = ["", *suffixes] if len(suffixes) > 1 else [""]
    stems = {path: _stem(path) for path in files}
    for suffix in kinds:
        of_kind = [path for path in files if suffix in ("", path.suffix)]
        heads = Counter(head for path in of_kind for head in _heads(stems[path]))
        ends = Counter(tail for path in of_kind for tail in _tails(stems[path]))
        for head in ["", *(text for text, count in heads.most_common(_FORMS) if count >= needed)]:
            for tail in ["", *(text for text, count in ends.most_common(_FORMS) if count >= needed)]:
                by_key = {}
                for path in of_kind:
                    stem = stems[path]
                    if stem.startswith(head) and stem.endswith(tail) and len(stem) > len(head) + len(tail):
                        by_key[stem[len(head) : len(stem) - len(tail)].casefold()] = path
                explicit = of_kind[0].suffix if "." in tail or of_kind[0].suffix.lower() not in PICTURES else ""
                if by_key:
                    yield Form(folder, head, tail, suffix or explicit, by_key)


def _heads(stem: str) -> Iterator[str]:
    """Yield `img_` of `img_001`, `frame` of `frame001`: words before the first number."""
    if found := re.match(r"[A-Za-z]+[_\-. ]*(?=\d)|[A-Za-z]+[_\-. ]+(?=[A-Za-z])", stem):
        yield found.group()


def _tails(stem: str) -> Iterator[str]:
    """Yield `_labelIds` and `_gtFine_labelIds` of `aachen_000019_gtFine_labelIds`: words after a separator."""
    for found in re.finditer(r"[_\-. ](?=[A-Za-z])", stem):
        tail = stem[found.start() :]
        if re.fullmatch(r"(?:[_\-. ][A-Za-z][A-Za-z0-9]*)+", tail):
            yield tail
    if attached := re.search(r"(?<=\d)[A-Za-z]+$", stem):
        yield attached.group()


def _best_of(
    ours: Sequence[Form], forms: Mapping[str, Sequence[Form]], folder: str, look: LabelLook | None
) -> Iterator[Pair]:
    """Yield the best labels for the images of a folder, if any. look: None if the labels are known."""
    found: list[tuple[tuple[float, ...], Form, Form, list[str]]] = []
    for other, theirs in forms.items():
        _, word = with_split(folder)
        if with_split(other)[1] not in ("", word):
            continue
        for images in ours:
            for labels in theirs:
                if (images.head or images.tail) and (labels.head, labels.tail) == (images.head, images.tail):
                    continue  # the pattern without the affix covers it
                keys = sorted(images.by_key.keys() & labels.by_key.keys())
                keys = [key for key in keys if images.by_key[key] != labels.by_key[key]]
                if keys:
                    found.append((_worth(images, labels, keys), images, labels, keys))
    for _, images, labels, keys in sorted(found, key=lambda item: item[0], reverse=True):
        pairs = [(images.by_key[key], labels.by_key[key]) for key in keys]
        if look is None or look.are_labels(
            [label for _, label in pairs], [image for image, _ in pairs], labels.hint - images.hint
        ):
            yield _pair(images, labels, keys)
            return


def _worth(images: Form, labels: Form, keys: Sequence[str]) -> tuple[float, ...]:
    """Return a key that ranks pairs of patterns by their files, fitting words, similar folders, and short affixes."""
    ours, theirs = images.folder.split("/"), labels.folder.split("/")
    other = bool(_OTHER.search(labels.template)) and not _OTHER.search(images.template)
    affixes = sum(len(text) for form in (images, labels) for text in (form.head, form.tail))
    alike = len(set(ours) & set(theirs)) - abs(len(ours) - len(theirs))
    numbers = "trainids" in labels.template.lower()
    return (
        -other,
        round(len(keys) / max(len(images.by_key), 1), 1),
        len(keys),
        labels.hint - images.hint,
        -numbers,
        alike,
        -len({images.head, images.tail, labels.head, labels.tail}),
        -affixes,
        bool(labels.suffix),
    )


def _pair(images: Form, labels: Form, keys: Sequence[str]) -> Pair:
    templates = []
    for form, other in ((images, labels), (labels, images)):
        suffix = form.suffix
        if not suffix and form.folder == other.folder and (form.head, form.tail) == ("", ""):
            suffix = Counter(form.by_key[key].suffix for key in keys).most_common(1)[0][0]
        folder, _ = with_split(form.folder)
        templates.append(Form(folder, form.head, form.tail, suffix, {}).template)
    _, word = with_split(images.folder)
    files = tuple((images.by_key[key], labels.by_key[key]) for key in keys)

    def name(image: Path) -> str:
        return image.stem[len(images.head) : len(image.stem) - len(images.tail)]

    taken = {*labels.by_key.values(), *(image for image, _ in files)}
    left = {name(path): path for path in images.by_key.values() if path not in taken}
    return Pair(templates[0], templates[1], word, tuple(name(image) for image, _ in files), files, left)


def with_split(folder: str) -> tuple[str, str]:
    """Return `images/{split}` and `train` of `images/train`; the last folder with a split's word counts."""
    parts = folder.split("/")
    for place in reversed(range(len(parts))):
        if found := _SPLIT.search(parts[place]):
            parts[place] = f"{parts[place][: found.start()]}{{split}}{parts[place][found.end() :]}"
            return "/".join(parts), found.group()
    return folder, ""


def _with_groups(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the pairs with `{group}` for folders that vary alike in both patterns, such as sequences or cities."""
    pairs = list(pairs)
    found = []
    for pair in pairs:
        ours, theirs = pair.images.split("/"), pair.labels.split("/")
        alike = [other.images.split("/") for other in pairs if other.images.count("/") == len(ours) - 1]
        same = [
            place
            for place, part in enumerate(ours[:-1])
            if part in theirs[:-1] and "{" not in part and len({parts[place] for parts in alike}) > 1
        ]
        if len(same) == 1:
            group = ours[same[0]]
            images = "/".join("{group}" if place == same[0] else part for place, part in enumerate(ours))
            labels = "/".join("{group}" if part == group else part for part in theirs)
            keys = tuple(f"{group}/{key}" for key in pair.keys)
            left = {f"{group}/{key}": path for key, path in pair.unlabelled.items()}
            pair = Pair(images, labels, pair.word, keys, pair.files, left)
        found.append(pair)
    return found


def split_of(word: str) -> str:
    """Return the split that a folder's word stands for."""
    return WORDS.get(word.lower(), "train")
