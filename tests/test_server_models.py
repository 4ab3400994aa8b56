"""Which versions are there, loaded and used, while folders change."""

from __future__ import annotations

import contextlib
import gc
import shutil
import threading
import weakref
from pathlib import Path

import pytest

pytest.importorskip("tensorflow_serving", reason="needs the extra 'serving'")

from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from musicnet_tf.errors import ConfigError, ModelError
from serving.server import ModelConfig, VersionPolicy
from serving.server.errors import RequestError
from serving.server.metrics import Metrics
from serving.server.models import KEPT_ENDED, Models, State

COLLECT = gc.collect


@pytest.fixture(autouse=True, scope="module")
def without_collections():
    """Going through all that TensorFlow has in memory takes half a second, and there is nothing to collect here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gc, "collect", lambda: None)
        yield


def load(folder: Path) -> str:
    """What stands in the file that would be the SavedModel."""
    text = (folder / "saved_model.pb").read_text()
    if text == "damaged":
        raise ModelError(f"{folder}: damaged")
    return text


def publish(base: Path, version: int, text: str = "fine") -> None:
    (base / str(version)).mkdir(parents=True, exist_ok=True)
    (base / str(version) / "saved_model.pb").write_text(f"{text}" if text == "damaged" else f"{text} {version}")


@pytest.fixture
def base(tmp_path):
    publish(tmp_path / "notes", 1)
    return tmp_path / "notes"


@pytest.fixture
def metrics():
    return Metrics()


@pytest.fixture
def models(base, metrics):
    models = Models(load, metrics)
    models.configure([ModelConfig("notes", base)])
    return models


def served(models, version=None, label=None, name="notes"):
    with models.acquire(name, version, label) as (number, servable):
        return number, servable


def refused(models, **asked):
    with pytest.raises(RequestError) as caught:
        served(models, **asked)
    return caught.value.code, caught.value.message


def states(models):
    return {number: state.name for number, (state, _) in models.status("notes").items()}


def test_a_new_version_takes_the_place_of_the_old(models, base):
    assert served(models) == (1, "fine 1")
    publish(base, 2)
    assert served(models) == (1, "fine 1")
    models.poll()
    assert served(models) == (2, "fine 2")
    assert states(models) == {2: "AVAILABLE", 1: "END"}
    assert refused(models, version=1) == (StatusCode.NOT_FOUND, "Servable not found for request: Specific(notes, 1)")


def test_the_old_version_stays_until_its_last_request_has_ended(models, base):
    publish(base, 2)
    with models.acquire("notes") as (number, servable):
        models.poll()
        assert (number, servable) == (1, "fine 1")
        assert states(models) == {2: "AVAILABLE", 1: "UNLOADING"}
        assert served(models) == (2, "fine 2")
    assert states(models) == {2: "AVAILABLE", 1: "END"}


def test_a_version_that_was_let_go_of_takes_no_memory(base, monkeypatch):
    monkeypatch.setattr(gc, "collect", COLLECT)

    class Graph:
        def __init__(self, folder):
            self.itself = self  # as graphs do

    models, known = Models(Graph, Metrics()), weakref.WeakSet()
    models.configure([ModelConfig("notes", base)])
    for version in (2, 3):
        with models.acquire("notes") as (_, servable):
            known.add(servable)
            del servable
            publish(base, version)
            models.poll()
            assert len(known) == 1
        models.poll()
        assert len(known) == 0


def test_there_is_always_a_version_to_be_had_while_versions_are_swapped(models, base):
    done, seen, errors = threading.Event(), set(), []

    def use():
        while not done.is_set():
            try:
                number, servable = served(models)
                assert servable == f"fine {number}"
                seen.add(number)
            except Exception as error:
                errors.append(error)

    users = [threading.Thread(target=use) for _ in range(2)]
    for user in users:
        user.start()
    for version in range(2, 52):
        publish(base, version)
        models.poll()
        shutil.rmtree(base / str(version - 1))
    done.set()
    for user in users:
        user.join()
    assert errors == []
    assert seen <= set(range(1, 52))
    assert served(models) == (51, "fine 51")
    models.poll()
    assert len(states(models)) == KEPT_ENDED + 1


def test_what_is_half_written_or_no_version_is_left_alone(models, base):
    (base / "2").mkdir()
    publish(base, 3)
    (base / "3").rename(base / ".3.part")
    (base / "-4").mkdir()
    (base / "notes.txt").write_text("5")
    (base / "²").mkdir()
    models.poll()
    assert states(models) == {1: "AVAILABLE"}
    publish(base, 2)
    models.poll()
    assert served(models) == (2, "fine 2")


def test_a_version_that_cannot_be_loaded_is_told_and_the_old_one_stays(models, base, metrics, caplog):
    publish(base, 2, "damaged")
    models.poll()
    models.poll()
    assert served(models) == (1, "fine 1")
    assert states(models) == {2: "END", 1: "AVAILABLE"}
    error = models.status("notes", version=2)[2][1]
    assert error == "notes/2: damaged"  # not where it lies
    assert caplog.text.count("damaged") == 1  # not tried again while nothing changes
    assert refused(models, version=2)[0] is StatusCode.NOT_FOUND
    publish(base, 2, "mended")
    models.poll()
    assert served(models) == (2, "mended 2")
    assert (
        metrics.registry.get_sample_value(
            "tensorflow_serving_model_loads_total", {"model_name": "notes", "status": "error"}
        )
        == 1
    )


def test_a_fault_of_ours_in_loading_takes_nothing_down(base):
    models = Models(lambda folder: load(folder) if folder.name == "1" else 1 / 0, Metrics())
    publish(base, 2)
    models.configure([ModelConfig("notes", base, VersionPolicy(all=True))])
    assert served(models) == (1, "fine 1")
    assert states(models) == {2: "END", 1: "AVAILABLE"}
    assert models.status("notes")[2][1] == "a fault in loading it; the server's log says why"


def test_a_folder_that_is_gone_for_a_while_changes_nothing_and_is_told_once(models, base, caplog):
    base.rename(base.with_name("away"))
    models.poll()
    models.poll()
    assert served(models) == (1, "fine 1")
    assert caplog.text.count("cannot be read") == 1
    base.with_name("away").rename(base)
    shutil.rmtree(base / "1")
    models.poll()  # a version that is withdrawn
    assert refused(models) == (StatusCode.NOT_FOUND, "Servable not found for request: Latest(notes)")


def test_labels_aliases_and_names(base):
    publish(base, 2)
    config = ModelConfig("notes", base, VersionPolicy(all=True), {"stable": 1, "canary": 2}, aliases=("short",))
    models = Models(load, Metrics())
    models.configure([config])
    assert served(models, label="stable") == (1, "fine 1")
    assert served(models, label="canary", name="short") == (2, "fine 2")
    assert models.names() == {"notes": [1, 2], "short": [1, 2]}
    assert models.status("notes", label="stable") == {1: (State.AVAILABLE, "")}
    assert refused(models, label="beta") == (
        StatusCode.INVALID_ARGUMENT,
        "Unrecognized servable version label: beta",
    )
    assert refused(models, name="../notes")[0] is StatusCode.NOT_FOUND
    for asked in ({"name": "piano"}, {"name": "notes", "version": 9}):
        with pytest.raises(RequestError, match="Could not find"):
            models.status(**asked)


def test_a_label_of_a_version_that_is_not_there_is_refused_unless_allowed(models, base):
    labelled = ModelConfig("notes", base, labels={"stable": 7})
    with pytest.raises(ConfigError, match="label 'stable' names version 7, which is not available; allow that by --"):
        models.configure([labelled])
    assert served(models) == (1, "fine 1")  # everything stays as it was
    patient = Models(load, Metrics(), any_label=True)
    patient.configure([labelled])
    assert refused(patient, label="stable") == (
        StatusCode.NOT_FOUND,
        "Servable not found for request: Specific(notes, 7)",
    )
    publish(base, 7)
    patient.poll()
    assert served(patient, label="stable") == (7, "fine 7")


def test_models_come_and_go_and_what_stays_is_not_loaded_again(base, tmp_path):
    loads = []
    models = Models(lambda folder: loads.append(folder) or load(folder), Metrics())
    models.configure([ModelConfig("notes", base)])
    publish(tmp_path / "beats", 4)
    models.configure([ModelConfig("notes", base), ModelConfig("beats", tmp_path / "beats")])
    assert served(models, name="beats") == (4, "fine 4")
    with models.acquire("notes") as (_, servable):
        models.configure([ModelConfig("beats", tmp_path / "beats")])
        assert servable == "fine 1"
        assert refused(models)[0] is StatusCode.NOT_FOUND
    assert loads == [base / "1", tmp_path / "beats" / "4"]
    models.close()
    assert models.names() == {}


def test_two_models_of_one_name_are_refused(base):
    for second in (ModelConfig("notes", base), ModelConfig("other", base, aliases=("notes",))):
        with pytest.raises(ConfigError, match="model 'notes': is named twice"):
            Models(load, Metrics()).configure([ModelConfig("notes", base), second])
    with pytest.raises(ConfigError, match="has no name"):
        Models(load, Metrics()).configure([ModelConfig("", base)])


@given(st.sets(st.integers(1, 9)), st.integers(1, 4), st.frozensets(st.integers(1, 9), min_size=1))
def test_policies(versions, latest, specific):
    assert VersionPolicy(all=True).choose(versions) == versions
    assert VersionPolicy(specific=specific).choose(versions) == versions & specific
    chosen = VersionPolicy(latest=latest).choose(versions)
    assert len(chosen) == min(latest, len(versions))
    assert all(old < new for old in versions - chosen for new in chosen)


class Swaps:
    """Publishes, withdraws and uses versions as hypothesis likes, and holds the models to what they promise."""

    def __init__(self, base: Path) -> None:
        self.base, self.models = base, Models(load, Metrics())
        self.whole: set[int] = set()
        self.models.configure([ModelConfig("notes", base)])

    def step(self, version: int, text: str) -> None:
        publish(self.base, version, text)
        (self.whole.discard if text == "damaged" else self.whole.add)(version)
        before = self.models.names()["notes"]
        self.models.poll()
        newest = max(int(path.name) for path in self.base.iterdir())
        available = self.models.names()["notes"]
        assert available == ([newest] if newest in available else before)
        assert len(available) <= 1


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["fine", "damaged"])), max_size=8))
def test_whatever_is_published_the_newest_that_loads_is_served_and_none_is_lost(tmp_path_factory, steps):
    with contextlib.ExitStack() as stack:
        base = tmp_path_factory.mktemp("swaps")
        stack.callback(shutil.rmtree, base)
        swaps, served_once = Swaps(base), False
        for version, text in steps:
            if not (base / str(version)).exists():
                swaps.step(version, text)
            served_once = served_once or bool(swaps.models.names()["notes"])
            assert bool(swaps.models.names()["notes"]) == served_once
