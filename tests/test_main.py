"""The `musicnet` command, tried on a verb made for the purpose and on the verbs that there are."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
from conftest import ROOT

import musicnet_tf
from musicnet_tf import bin as bin_package
from musicnet_tf.bin.main import verbs

PROBE = '''
"""Repeat what was said.

Example:
    musicnet say_again hello --times=2
"""

from absl import app, flags

from musicnet_tf.errors import AudioError

_TIMES = flags.DEFINE_integer("times", 1, "How often.", lower_bound=0)
_TO = flags.DEFINE_string("output_dir", None, "Where to.", required=True)
_FORMATS = flags.DEFINE_list("formats", ["midi", "csv"], "What to write.")
_SKIP = flags.DEFINE_bool("skip_existing", False, "Leave alone what is there.")
_HOW = flags.DEFINE_enum("how", "loud", ["loud", "soft"], "Dynamics.")
_SET = flags.DEFINE_multi_string("set", [], "Override a key.")


def main(argv):
    word = argv[1]
    if word == "audio":
        raise AudioError("a.wav: is silent; record it again")
    if word == "usage":
        raise app.UsageError("say something else")
    if word == "interrupt":
        raise KeyboardInterrupt
    if word == "fault":
        raise ZeroDivisionError("ours")
    if word == "beam":
        raise ModuleNotFoundError("No module named 'apache_beam.io'", name="apache_beam.io")
    if word == "typo":
        import no_such_module
    if word == "three":
        return 3
    for _ in range(_TIMES.value):
        print(*argv[1:], _TO.value, _FORMATS.value, _SKIP.value, _HOW.value, _SET.value)
'''


@pytest.fixture(autouse=True)
def say_again(tmp_path, monkeypatch):
    (tmp_path / "say_again.py").write_text(PROBE.lstrip())
    (tmp_path / "_private.py").write_text('"""Not a verb."""')
    monkeypatch.setattr(bin_package, "__path__", [*bin_package.__path__, str(tmp_path)])


def test_overview_lists_each_verb_with_its_first_line(musicnet):
    for args in ([], ["--help"], ["-h"], ["help"]):
        outcome = musicnet(*args)
        assert outcome.status == 0
        assert "Repeat what was said." in next(line for line in outcome.stdout.splitlines() if "say_again" in line)
    assert "_private" not in outcome.stdout
    assert " main " not in outcome.stdout


def test_version(musicnet):
    assert musicnet("--version") == (0, f"musicnet_tf {musicnet_tf.__version__}\n", "")


def test_runs_a_verb_with_files_and_flags_in_any_order(musicnet):
    outcome = musicnet("say_again", "a.wav", "--output_dir=o", "b c.wav", "--times", 2, "--set=a=1", "--set=b=2")
    assert outcome.stdout == "a.wav b c.wav o ['midi', 'csv'] False loud ['a=1', 'b=2']\n" * 2
    assert outcome.status == 0
    assert musicnet("say-again", "--output_dir=o", "--", "--help").stdout.startswith("--help o")


def test_the_home_folder_is_found_in_a_flags_value(musicnet, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    said = musicnet("say_again", "~/x", "a=~/x", "--output_dir=~/o", "--set=a=~/y").stdout
    assert said == "~/x a=~/x /home/someone/o ['midi', 'csv'] False loud ['a=~/y']\n"


def test_flags_of_one_call_do_not_reach_the_next(musicnet):
    assert musicnet("say_again", "x", "--output_dir=o", "--times=3").stdout.count("\n") == 3
    assert musicnet("say_again", "x", "--output_dir=o").stdout.count("\n") == 1


def test_help_of_a_verb_is_its_docstring_and_its_own_flags(musicnet):
    outcome = musicnet("say_again", "--help")
    assert outcome.status == 0
    expected = """
        Repeat what was said.

        Example:
            musicnet say_again hello --times=2

        Flags:
          --times=INT
              How often. (default: 1)
          --output_dir=TEXT
              Where to.
          --formats=A,B,…
              What to write. (default: midi,csv)
          --[no]skip_existing
              Leave alone what is there.
          --how=loud|soft
              Dynamics. (default: loud)
          --set=TEXT
              Override a key. (repeatable)
        """
    assert outcome.stdout == textwrap.dedent(expected).lstrip()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["x", "--output_dirr=o"], "unknown flag --output_dirr, did you mean '--output_dir'?"),
        (["x"], "flag --output_dir is required"),
        (["x", "--output_dir=o", "--times=many"], "flag --times=many: invalid literal"),
        (["x", "--output_dir=o", "--times=-1"], "flag --times=-1: -1 is not a non-negative"),
        (["x", "--output_dir=o", "--how=so"], "flag --how=so: value should be one of <loud|soft>"),
        (["x", "--output_dir"], "Missing value for flag --output_dir"),
        (["usage", "--output_dir=o"], "say something else"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_status_2(musicnet, args, message):
    outcome = musicnet("say_again", *args)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith(f"musicnet say_again: error: {message}")
    assert outcome.stderr.endswith("(see: musicnet say_again --help)\n")
    assert outcome.stderr.count("\n") == 1


def test_unknown_verb_names_the_nearest_and_the_choices(musicnet):
    outcome = musicnet("say-agian")
    assert outcome.status == 2
    first, second = outcome.stderr.splitlines()
    assert first == "musicnet: error: unknown verb 'say-agian', did you mean 'say_again'?"
    assert second == "Choose from: " + ", ".join(verbs())


def test_an_error_of_ours_is_one_line_and_status_1(musicnet):
    expected = (1, "", "musicnet say_again: error: a.wav: is silent; record it again\n")
    assert musicnet("say_again", "audio", "--output_dir=o") == expected


def test_a_missing_extra_is_named(musicnet):
    outcome = musicnet("say_again", "beam", "--output_dir=o")
    assert outcome == (1, "", "musicnet say_again: error: needs apache_beam: pip install 'musicnet_tf[beam]'\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        musicnet("say_again", "typo", "--output_dir=o")


def test_status_of_the_verb_is_kept(musicnet):
    assert musicnet("say_again", "three", "--output_dir=o").status == 3


def test_interrupt_is_status_130(musicnet):
    assert musicnet("say_again", "interrupt", "--output_dir=o") == (130, "", "musicnet say_again: interrupted\n")


def test_a_fault_keeps_its_traceback(musicnet):
    with pytest.raises(ZeroDivisionError, match="ours"):
        musicnet("say_again", "fault", "--output_dir=o")


def test_reader_that_leaves_early_is_no_error(tmp_path):
    code = f"""
from musicnet_tf import bin
bin.__path__.append({str(tmp_path)!r})
from musicnet_tf.bin.main import main
raise SystemExit(main(["say_again", "x", "--output_dir=o", "--times=100000"]))
"""
    writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.stderr.read() == b""
    assert writer.wait(timeout=60) == 141


def test_listing_verbs_imports_neither_them_nor_anything_heavy():
    code = """
import sys
from musicnet_tf.bin.main import main, verbs
assert main([]) == 0
heavy = {"tensorflow", "keras", "numpy", "librosa", "matplotlib", "pydantic"} & set(sys.modules)
imported = {f"musicnet_tf.bin.{verb}" for verb in verbs()} & set(sys.modules)
assert not heavy | imported, heavy | imported
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("module", ["musicnet_tf", "musicnet_tf.bin.main"])
def test_runs_as_a_module_and_prints_the_same(module, musicnet, tmp_path):
    command = [sys.executable, "-m", module, "--version"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert outcome.stdout == musicnet("--version").stdout


@pytest.mark.parametrize("verb", verbs())
def test_help_of_every_verb_comes_without_tensorflow(verb):
    code = f"""
import sys
from musicnet_tf.bin.main import main
assert main([{verb!r}, "--help"]) == 0
assert "tensorflow" not in sys.modules, "tensorflow was imported for --help"
"""
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    assert "Flags:" in outcome.stdout
    assert f"musicnet {verb}" in outcome.stdout
