"""Join the ES modules of report/web into one classic script, each in its own scope.

A page is one file opened from a disk, where browsers load no modules. The modules use only the forms
`import { a, b } from "./x.js";` and `export function|class|const name`.
"""

import re
from posixpath import dirname, join, normpath

from nasseg.report.html.one_file import resource

_IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "(\.[\w./-]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)


def bundle(*entries: str) -> str:
    """Return the script of a page: the modules in this order, each once and after all its imports.

    Raises:
        ValueError: a module imports a name that is not exported, imports itself through others, or uses a form that
            cannot be joined.
    """
    parts: dict[str, str] = {}  # dependencies first
    exports: dict[str, list[str]] = {}
    for entry in entries:
        _join(entry, parts, exports, ())
    return '"use strict";\n' + "".join(parts.values())


def _join(name: str, parts: dict[str, str], exports: dict[str, list[str]], above: tuple[str, ...]) -> None:
    if name in above:
        raise ValueError(f"scripts import each other in a circle: {' -> '.join((*above, name))}")
    if name in parts:
        return
    source, lines = resource(name), []
    for names, path in _IMPORT.findall(source):
        other = normpath(join(dirname(name), path))
        _join(other, parts, exports, (*above, name))
        if missing := set(names.split(", ")) - set(exports[other]):
            raise ValueError(f"{name} imports {', '.join(sorted(missing))} from {other}, which does not export it")
        lines.append(f"const {{ {names} }} = {_variable(other)};\n")
    exports[name] = [found for _, found in _EXPORT.findall(source)]
    body = _EXPORT.sub(r"\1 \2", _IMPORT.sub("", source))
    if wrong := re.search(r"^(?:import|export)\b.*", body, re.MULTILINE):
        raise ValueError(f"{name}: this form cannot be joined: {wrong[0]}")
    given = f"return {{ {', '.join(exports[name])} }};\n"
    parts[name] = f"const {_variable(name)} = (() => {{\n{''.join(lines)}{body}{given}}})();\n"


def _variable(name: str) -> str:
    return "$" + re.sub(r"\W", "_", name.removesuffix(".js"))
