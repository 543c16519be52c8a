"""Scripts of the page: joined modules keep their own scopes, and a wrong import is found when a page is written."""

import re
import shutil
import subprocess

import pytest

from nasseg.report.html import one_file, scripts


@pytest.fixture
def web(tmp_path, monkeypatch):
    """A folder of modules in place of report/web."""

    def write(**files):
        for name, source in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.js"
            path.parent.mkdir(exist_ok=True)
            path.write_text(source)

    monkeypatch.setattr(one_file, "_WEB", tmp_path)
    return write


def test_each_module_is_joined_once_after_what_it_imports(web):
    web(
        page='import { f } from "./lib/a.js";\nimport { one } from "./lib/b.js";\nexport const said = f(one());\n',
        lib__a='import { one } from "./b.js";\nconst hidden = 2\nexport function f(x) { return hidden * x + one() }\n',
        lib__b="const hidden = 5;\nexport const one = () => hidden;\n",
    )
    script = scripts.bundle("page.js")
    assert re.findall(r"^const \$(\w+) =", script, re.MULTILINE) == ["lib_b", "lib_a", "page"]
    assert script.count("const hidden = 5") == 1
    node = shutil.which("node")
    if node:  # two `hidden` in scopes of their own: 2 * 5 + 5
        program = script + "console.log($page.said)"
        shown = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
        assert shown.stdout == "15\n"


@pytest.mark.parametrize(
    ("page", "other", "why"),
    [
        (
            'import { b } from "./other.js";\n',
            "export const a = 1;\n",
            "imports b from other.js, which does not export",
        ),
        ('import { a } from "./other.js";\n', 'import { p } from "./page.js";\nexport const a = 1;\n', "in a circle"),
        ('import * as all from "./other.js";\n', "", "this form cannot be joined"),
        ("export default 3;\n", "", "this form cannot be joined"),
    ],
)
def test_what_cannot_be_joined_is_refused(web, page, other, why):
    web(page=page, other=other)
    with pytest.raises(ValueError, match=why):
        scripts.bundle("page.js")


def test_every_script_is_on_a_page():
    """No module is left behind when its page no longer needs it."""
    joined = scripts.bundle(*one_file.scripts_in("sections"), "page.js") + scripts.bundle("tables_page.js")
    names = {
        "$" + re.sub(r"\W", "_", str(path.relative_to(one_file._WEB).with_suffix("")))
        for path in one_file._WEB.rglob("*.js")
    }
    assert len(names) > 10
    assert names == set(re.findall(r"^const (\$\w+) = \(\(\) => \{$", joined, re.MULTILINE))
