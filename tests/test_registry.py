"""Names → classes: discovery, duplicates, unknown names, strict entries."""

from __future__ import annotations

import sys

import pydantic
import pytest

from musicnet_tf.errors import ConfigError
from musicnet_tf.registry import Entry, Registry, nearest


@pytest.fixture
def instruments(tmp_path, monkeypatch) -> Registry:
    """A registry over a package with one module an instrument, made for the test."""
    package = tmp_path / "instruments_of_test"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from musicnet_tf.registry import Registry\nINSTRUMENTS = Registry('instrument', 'instruments_of_test')\n"
    )
    for name, strings in (("violin", 4), ("viola", 4), ("harp", 47)):
        (package / f"{name}.py").write_text(
            "from instruments_of_test import INSTRUMENTS\nfrom musicnet_tf.registry import Entry\n\n"
            f"@INSTRUMENTS.register('{name}')\nclass {name.title()}(Entry):\n    strings: int = {strings}\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    import instruments_of_test

    yield instruments_of_test.INSTRUMENTS
    for module in [m for m in sys.modules if m.startswith("instruments_of_test")]:
        del sys.modules[module]


def test_a_file_in_the_package_is_all_it_takes(instruments):
    assert "instruments_of_test.harp" not in sys.modules  # not before it is asked for
    assert instruments.names() == ["harp", "viola", "violin"]
    assert instruments.get("harp")().strings == 47
    assert instruments.get("harp").name == "harp"


def test_unknown_name_lists_the_nearest_and_all(instruments):
    with pytest.raises(ConfigError) as error:
        instruments.get("violn")
    assert str(error.value) == ("unknown instrument 'violn', did you mean 'violin'?; choose from: harp, viola, violin")
    with pytest.raises(ConfigError, match="unknown instrument 'kazoo'; choose from"):
        instruments.get("kazoo")


def test_a_name_can_be_taken_once(instruments):
    instruments.names()
    with pytest.raises(ConfigError, match=r"instrument 'harp' is registered twice: instruments_of_test\.harp and "):
        instruments.register("harp")(Entry)
    assert instruments.get("harp")().strings == 47


def test_entries_are_strict_frozen_and_tell_their_name(instruments):
    harp = instruments.get("harp")
    assert harp(strings=36).model_dump() == {"name": "harp", "strings": 36}
    with pytest.raises(pydantic.ValidationError, match="strnigs"):
        harp(strnigs=36)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        harp().strings = 36


def test_nearest():
    assert nearest("onsett", ["onset", "offset"]) == ", did you mean 'onset'?"
    assert nearest("zzz", ["onset", "offset"]) == ""
