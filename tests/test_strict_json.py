"""A key given twice is a mistake of whoever wrote it, and neither of the two is taken for the other."""

import pytest

from arr_trl.cli.judge_arguments import JudgeArguments
from arr_trl.rubrics import Rubric
from arr_trl.strict_json import loads_strictly


def test_json_is_read_as_ever():
    assert loads_strictly('{"a": [{"b": 1}, {"b": 2}], "c": null}') == {"a": [{"b": 1}, {"b": 2}], "c": None}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"x": [{"a": 1, "\\u0061": 1}]}', "[" * 100_000, "nonsense"])
def test_what_is_no_strict_json_is_a_value_error(text):
    with pytest.raises(ValueError):
        loads_strictly(text)


def test_a_second_list_of_criteria_does_not_replace_the_first(tmp_path):
    path = tmp_path / "rubric.json"
    path.write_text('{"name": "r", "criteria": [{"text": "Two cubes."}], "criteria": [{"text": "One cube."}]}')
    with pytest.raises(ValueError, match=r"rubric\.json is not valid JSON: the key 'criteria' stands twice"):
        Rubric.load(path)


def test_a_field_of_the_request_given_twice_is_refused():
    with pytest.raises(ValueError, match="the key 'seed' stands twice"):
        JudgeArguments(judge_extra_body='{"seed": 1, "seed": 2}')
