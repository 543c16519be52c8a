"""The blocks of a page: what is packed comes out again, and no number that JSON does not have."""

import base64
import gzip
import json

import pytest

from nasseg.report.html.one_file import packed_json, packed_list


def unpacked(block):
    return json.loads(gzip.decompress(base64.b64decode(block)))


@pytest.mark.parametrize(
    "value",
    ["NaN", "a logit is Infinity", "\ud83d", "é\u2028</script>", -0.0, 1e300, 5e-324, 10**30, {"a": [None, True, []]}],
)
def test_what_is_packed_comes_out_again(value):
    assert unpacked(packed_json({"value": value})) == {"value": value}


@pytest.mark.parametrize("count", [0, 1, 100, 101, 250])
def test_a_long_list_is_packed_in_parts(count):
    items = [{"row": row, "text": f"[{row}]"} for row in range(count)]
    assert unpacked(packed_list(iter(items))) == items


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_have_is_refused(value):
    for packed in (packed_json, packed_list):
        with pytest.raises(ValueError, match="not JSON compliant"):
            packed([1.0, {"a": value}])
