"""Users' own tables: `base: bisenetv2/table-3a`, with rows that are added or replace its own.

    base: bisenetv2/table-3a
    rows:
      - {name: "1/8 and epsilon = 3", like: lambda = 1/8, set: {expansion: 3}}

Any other key of a table (title, question, recipe, columns, ...) comes from the base unless it is given. A row with the
name of a base row replaces that row's given keys; any other row is added at the end. `like` names the row whose network
and recipe a row starts from.
"""

from typing import Any

from nasseg.errors import UserError, unknown
from nasseg.files import Document, KeyPath, find_file, read_yaml

_BUILT = ("variant", "set", "recipe", "module")  # the keys that `like` takes over


def with_base(document: Document, seen: tuple[str, ...] = ()) -> Document:
    """Return a table's document, filled in from its `base`. Errors name the document's own lines.

    Raises:
        UserError: there is no such table, or no such row.
    """
    data = document.data
    name = data.get("base")
    if name is None:
        return document
    if not isinstance(name, str):
        raise document.error(("base",), f"base is the name of another table, got {name!r}")
    if name in seen:
        raise UserError(f"{name} is its own base")
    try:
        base = with_base(read_yaml(find_file("tables", name)), (*seen, name)).data
    except UserError as error:
        raise document.error(("base",), str(error)) from None
    own = data.get("rows", [])
    if not isinstance(own, list) or not all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in own):
        raise document.error(("rows",), "rows is a list of mappings, each with a name (text)")
    more = data.get("columns") or {}
    if not isinstance(more, dict) or not all(isinstance(column, dict) for column in more.values()):
        raise document.error(("columns",), f"columns is a mapping of names to mappings, got {more!r}")
    columns = {**base.get("columns", {}), **more}
    rows = {row["name"]: row for row in base.get("rows", [])}
    lines: dict[KeyPath, int] = {where: line for where, line in document.lines.items() if where[:1] != ("rows",)}
    for index, row in enumerate(own):
        try:
            rows[row["name"]] = _row(row, rows, columns)
        except UserError as error:
            raise document.error(("rows", index), str(error)) from None
        at = list(rows).index(row["name"])
        lines |= {("rows", at, *w[2:]): line for w, line in document.lines.items() if w[:2] == ("rows", index)}
    merged = {
        **base,
        "table": f"{base.get('table')} and own rows",
        **data,
        "columns": columns,
        "rows": [*rows.values()],
    }
    merged.pop("base")
    return Document(document.path, document.text, merged, lines)


def _row(row: dict[str, Any], rows: dict[str, dict[str, Any]], columns: dict[str, Any]) -> dict[str, Any]:
    before = rows.get(row["name"], {})
    if "like" in row:
        if not isinstance(row["like"], str) or row["like"] not in rows:
            raise unknown("row", row["like"], rows)
        like = {key: rows[row["like"]][key] for key in _BUILT if key in rows[row["like"]]}
        if "variant" not in like:
            raise UserError(f"row {row['like']!r} is not built here: `like` must name a row that is")
        before = {"printed": before.get("printed"), **like} if before else like
    given = {key: value for key, value in row.items() if key != "like"}
    joined = {
        key: {**before.get(key, {}), **given[key]} for key in ("set", "recipe") if isinstance(given.get(key), dict)
    }
    merged = {**before, **given, **joined}
    if not merged.get("printed"):
        known = rows.get(row.get("like", ""), {}).get("printed", columns)
        layers = {name for name, column in columns.items() if "layer" in column}
        unseen = layers - {*known} if "module" in merged else layers
        asked = [name for name, column in columns.items() if "given" not in column and name not in unseen]
        if not asked and layers:
            raise UserError("its columns need a module, and the row names none: add `module`")
        merged["printed"] = dict.fromkeys(asked)
    return merged
