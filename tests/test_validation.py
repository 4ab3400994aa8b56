"""Settings from the command line: parsed, laid one over another, and refused with one line."""

import subprocess
import sys

import pytest

from musicnet_tf import validation
from musicnet_tf.errors import ConfigError


def test_settings_are_parsed_without_tensorflow():
    code = """
import sys
from musicnet_tf import validation
print(validation.parse_overrides(["delay={Sines: 0.06}"]), "tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'delay': {'Sines': 0.06}} False"


def test_a_mapping_is_read_of_a_yaml_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: {b: 1.5e-3}\nname: Dvořák\n1: [yes, ~]\n", encoding="utf-8")
    assert validation.read_yaml(path) == {"a": {"b": 0.0015}, "name": "Dvořák", 1: [True, None]}
    assert validation.read_yaml(str(path)) == validation.read_yaml(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"x\.yaml: not found$"),
        (b"", r"x\.yaml: must be a mapping of keys to values$"),
        (b"- a\n", r"x\.yaml: must be a mapping of keys to values$"),
        (b"a: 1\n b: [\n", r"x\.yaml: not readable as YAML: [^\n]+$"),
        (b"a: \xff", r"x\.yaml: not readable as YAML: [^\n]+$"),
        (b"a: !!python/object/apply:os.getcwd []", r"x\.yaml: not readable as YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_holds_no_mapping_is_told_in_one_line(content, message, tmp_path):
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        validation.read_yaml(path)


def test_a_folder_is_no_yaml_file(tmp_path):
    with pytest.raises(ConfigError, match=r"not readable as YAML: .*directory"):
        validation.read_yaml(tmp_path)


def test_overrides_are_yaml_laid_one_over_another():
    assert validation.parse_overrides([]) == {}
    assert validation.parse_overrides(["a.b=1", "a.c=[x, 2.5]", "d=e=f", "g=", "a.b=yes"]) == {
        "a": {"b": True, "c": ["x", 2.5]},
        "d": "e=f",
        "g": None,
    }


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.steps", r"--set train.steps: expected key=value, such as train.steps=200"),
        ("=3", r"--set =3: expected key=value"),
        ("a..b=3", r"--set a..b=3: expected key=value"),
        ("a=[1", r"--set a=\[1: the value is no YAML"),
        ("a={b: !!python/name:os.system }", "the value is no YAML"),
    ],
)
def test_a_wrong_override_is_told(override, message):
    with pytest.raises(ConfigError, match=message):
        validation.parse_overrides([override])


def test_merging_goes_mapping_by_mapping_and_changes_no_argument():
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2], "c": 3}
    changes = {"a": {"y": {"w": 4}}, "b": [5], "c": {"d": 6}, "e": 7}
    assert validation.merge(base, changes) == {
        "a": {"x": 1, "y": {"z": 2, "w": 4}},
        "b": [5],  # lists are replaced
        "c": {"d": 6},
        "e": 7,
    }
    assert base == {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2], "c": 3}
