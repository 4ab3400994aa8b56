import csv
import tarfile

import pytest

from musicnet_tf import works
from musicnet_tf.datasets.musicnet import EXTENDED_TEST, MusicNet
from musicnet_tf.errors import DatasetError
from musicnet_tf.registry import DATASETS

PIANO_ALONE = "Solo Piano"


@pytest.fixture(scope="module")
def rows(shared_data):
    with (shared_data / "musicnet/musicnet_metadata.csv").open(newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def reason(row, solo_piano=None):
    title = f"{row['composition']} {row['catalog_name']}"
    alone = row["ensemble"] == PIANO_ALONE if solo_piano is None else solo_piano
    return works.held_out_reason(row["composer"], title, row["movement"], alone)


VALIDATION = MusicNet.model_fields["validation"].default


def test_test_and_validation_recordings_are_held_out_each_by_its_own_entry(rows):
    for name in (*EXTENDED_TEST, *VALIDATION):
        assert (reason(rows[name], solo_piano=False) or "").endswith(name)


def test_so_is_any_other_performance_of_the_same_movement(rows):
    def movement(row):
        return tuple(row[key] for key in ("composer", "composition", "movement"))

    held = {movement(rows[name]) for name in (*EXTENDED_TEST, *VALIDATION)}
    for row in rows.values():
        if movement(row) in held:
            assert reason(row, solo_piano=False)
            assert reason({**row, "id": "9999", "movement": ""}, solo_piano=False)


def test_other_movements_and_works_for_other_instruments_are_free(rows):
    held = {name for name, row in rows.items() if reason(row, solo_piano=False)}
    assert held == {*EXTENDED_TEST, *VALIDATION}


def test_no_published_label_file_of_a_held_out_work_passes_and_the_rest_do(rows, shared_data):
    with tarfile.open(shared_data / "musicnet_labels.tar.xz") as tar:
        names = {name.rpartition("/")[2].removesuffix(".csv") for name in tar.getnames() if name.endswith(".csv")}
    labels = {name for name in names if name.isdigit()}
    assert len(labels) == 317
    free = {name for name in labels if reason(rows[name]) is None}
    # By hand: of the 317, 150 are solo piano, all by composers of MAPS, and no other is held out.
    assert free == {name for name in labels if rows[name]["ensemble"] != PIANO_ALONE}
    assert len(free) == 167


def test_piano_transcriptions_pass_only_by_composers_outside_maps(shared_data):
    with tarfile.open(shared_data / "scores_and_performances.tar.xz") as tar:
        names = [name.partition("giantmidi/")[2] for name in tar.getnames() if "giantmidi/" in name]
    names = [name for name in names if name.endswith(".mid")]
    assert len(names) == 160
    free = [name for name in names if not works.is_held_out(works.composer_in(name), name)]
    assert len(free) == 13
    assert all(any(who in name.lower() for who in ("scarlatti", "scriabin", "handel")) for name in free)


@pytest.mark.parametrize(
    ("composer", "title", "movement"),
    [
        ("Joseph Haydn", "String Quartet in D major, Op. 64, No. 5 'The Lark'", "III. Menuet"),
        ("Haydn", "Hob.III:63", ""),
        ("Haydn", "Op. 64 No. 5", "Minuet"),
        ("Mozart, Wolfgang Amadeus", "Serenade No. 11, KV 375", "4. Menuetto"),
        ("J. S. Bach", "Partita No. 3 in E major for solo violin", "5. Bourrée"),
        ("Johann Sebastian Bach", "Suite for Cello No. 4, BWV 1010", "Gigue"),
        ("BACH", "Cello Suite No. 4", ""),
        ("Ludwig van Beethoven", "String Quartet No.13, op.130", "2"),
        ("beethoven", "Sonate für Klavier und Violine opus 96", "Scherzo"),
        ("", "04-ChristeDuBeistand", ""),
        ("Bach", "08-FuerDeinenThron", ""),
    ],
)
def test_spellings_are_seen_through(composer, title, movement):
    assert works.is_held_out(composer, title, movement, solo_piano=False)


@pytest.mark.parametrize(
    ("composer", "title", "movement"),
    [
        ("Haydn", "String Quartet Op. 64 No. 6", "3. Menuetto"),
        ("Haydn", "String Quartet Op. 64 No. 5", "1. Allegro moderato"),
        ("Mozart", "Serenade in E-flat major K375", "2. Menuetto"),
        ("Mozart", "Serenade in E-flat major K375", "II. Menuetto"),
        ("Brahms", "String Quartet in B-flat major Op. 67", "2. Andante"),
        ("Beethoven", "Septet Op. 20", "3. Tempo di Menuetto"),
        ("Schumann", "Piano Quintet Op. 44", "1. Allegro brillante"),
        ("Bach", "01-AchGottundHerr", ""),
    ],
)
def test_neighbours_of_held_out_works_are_free(composer, title, movement):
    assert not works.is_held_out(composer, title, movement, solo_piano=False)


@pytest.mark.parametrize(
    ("composer", "title", "held"),
    [
        ("Schumann", "Kinderszenen", True),
        ("Schumann", "Kinderszenen, Op. 15 No. 12", True),
        ("Schumann", "Kinderszenen, Op. 15 No. 6", False),
        ("Schumann", "Kinderszenen: Kind im Einschlummern", True),
        ("Schumann", "Kinderszenen no. 6 and no. 12", True),
        ("", "scn15_12", True),
        ("", "scn15_9", False),
        ("Borodin", "Petite Suite", True),
        ("Borodin", "Petite Suite no. 6", True),
        ("Borodin", "Petite Suite no. 1", False),
        ("Borodin", "Petite Suite, 1. Serenade", True),
        ("", "bor_ps6", True),
        ("Debussy", "Suite bergamasque", True),
        ("Debussy", "Suite bergamasque II", True),
        ("Debussy", "Suite bergamasque no 3: Clair de lune", False),
        ("Debussy", "Suite bergamasque: Clair de lune", True),  # no number, so it is not known
        ("Debussy", "deb_menu", True),
        ("Mozart", "Piano Sonata No. 16 in C major, K. 545", True),  # 16 is no movement
        ("Mozart", "K545 iii", True),
        ("Mozart", "K545 ii", False),
        ("", "mz_545_1", False),
        ("", "mz_545_3", True),
    ],
)
def test_of_what_maps_validates_on_a_title_frees_the_other_movements(composer, title, held):
    assert works.is_held_out(composer, title, solo_piano=False) == held
    numbered = works.is_held_out(composer, title, "1. First", solo_piano=False)
    assert numbered == (held and any(word in title for word in ("Einschlummern", "Serenade")))


@pytest.mark.parametrize("corpus", ["musicnet", "maps", "bach10"])
def test_nothing_that_is_trained_on_is_held_out(shared_data, corpus):
    """But by the rule of composers, which keeps the scores of MAPS away from other corpora."""
    reasons = {}
    for recording in DATASETS.get(corpus)(root=shared_data / corpus).recordings():
        known = recording.metadata
        title = " ".join(known.get(key, "") for key in ("composition", "catalog_name"))
        reason = works.held_out_reason(known.get("composer", ""), title, known.get("movement", ""), solo_piano=False)
        reasons.setdefault(recording.split, {})[recording.id] = reason
    assert set(reasons) == {"train", "validation"}
    assert {id: reason for id, reason in reasons["train"].items() if reason} == {}
    assert {id: reason for id, reason in reasons["validation"].items() if not reason} == {}


@pytest.mark.parametrize(
    ("composer", "title", "name"),
    [
        ("Scarlatti", "scarlatti_k009_sankey", "Scarlatti: k9"),
        ("Scarlatti", "Scarlatti_Keyboard_Sonata_in_D_minor_K9_PzzKSiUS-X0_cut", "Scarlatti: k9"),
        ("Scriabin", "Scriabin_op_42_Hf4EIJB4DGc_cut_no_4", "Scriabin: op42"),
        ("Scriabin", "scriabin_etude_op_42_no_4_dery", "Scriabin: op42"),
        ("Scriabin", "Vers la flamme", "Scriabin: Vers la flamme"),
        ("", "somebody_op_42", "somebody_op_42"),
    ],
)
def test_versions_of_a_work_have_one_name(composer, title, name):
    assert works.work_name(composer, title) == name


@pytest.mark.parametrize(
    "composer",
    [
        "Frédéric Chopin",
        "MENDELSSOHN-BARTHOLDY",
        "Isaac Albéniz",
        "Burgmueller",
        "P. I. Tschaikowsky",
        "Rachmaninov",
        "",
    ],
)
def test_solo_piano_of_maps_composers_or_nobody_is_held_out_whole(composer):
    assert works.is_held_out(composer, "a piece that no table names")
    assert not works.is_held_out(composer, "a piece that no table names", solo_piano=False)


def test_solo_piano_of_others_is_free():
    assert not works.is_held_out("Alexander Scriabin", "Etude op. 42 no. 4")


@pytest.mark.parametrize(
    ("name", "composer"),
    [
        ("Chopin, Frédéric, Études, Op.10, g0hoN6_HDVU", "Chopin"),
        ("Alkan, Charles-Valentin, Étude, abc", "Charles-Valentin Alkan"),
        ("scarlatti_k009_sankey", "Scarlatti"),
        ("ground_truth/bach_bwv_858_a", "Bach"),
        ("Liszt - Schubert_Liszt_Erlkönig", "Liszt"),
        ("MIDI-Unprocessed_02_R1_2009_03-06_ORIG_MID--AUDIO_02", ""),
        ("2186", ""),
    ],
)
def test_composer_in_a_file_name(name, composer):
    assert works.composer_in(name) == composer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Op. 64, No. 5", "op64 no5"),
        ("OP64NO5", "op64 no5"),
        ("KV 375", "k375"),
        ("BWV 1006", "bwv1006"),
        ("D.958", "d958"),
        ("Fauré: Élégie", "faure elegie"),
        ("Prelude_no3", "prelude no3"),
    ],
)
def test_normalise(text, words):
    assert works.normalise(text) == words
    assert works.normalise(words) == words


def test_metadata(shared_data, tmp_path):
    row = works.read_metadata(shared_data / "musicnet")["2382"]
    assert (row["composer"], row["movement"], row["seconds"]) == ("Beethoven", "2. Presto", "117")
    assert row["transcriber"]
    assert works.read_metadata(tmp_path) == {}
    late = tmp_path / works.METADATA
    late.write_text("id,composer,composition,movement\n7,Bach,Suite,1. Prelude\n")
    assert works.read_metadata(tmp_path) == {
        "7": {"composer": "Bach", "composition": "Suite", "movement": "1. Prelude"}
    }
    other = tmp_path / "other"
    other.mkdir()
    (other / works.METADATA).write_text("id,title\n1,x\n")
    with pytest.raises(DatasetError, match=r"musicnet_metadata\.csv: not MusicNet's metadata"):
        works.read_metadata(other)
