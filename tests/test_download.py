"""Downloads from a server on loopback that can be told to misbehave."""

import hashlib
import http.server
import io
import os
import re
import shutil
import tarfile
import threading

import pytest

from musicnet_tf import download
from musicnet_tf.download import Corpus, Part
from musicnet_tf.errors import DatasetError


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`, by a false `length` if one is set; cuts the first `cuts` answers after `cut_at` bytes;
    keeps a log of (path, Range).
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.log = {}, []
        self.cuts, self.cut_at, self.ranges, self.length = 0, 0, True, None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/files/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.log.append((self.path, wanted))
        data = server.files.get(self.path.removeprefix("/files/"))
        if data is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", server.length or str(len(data) - start))
        self.end_headers()
        body = data[start:]
        if server.cuts:
            server.cuts -= 1
            body = body[: server.cut_at]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "_WAIT", 0.0)
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def part(file, data, **kwargs):
    return Part(file, len(data), hashlib.md5(data).hexdigest(), **kwargs)


def tar(*entries):
    """A gzipped tar of (name, content) pairs or ready TarInfo."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return out.getvalue()


def special(name, kind, linkname=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info


TEXT = bytes(range(256)) * 64  # 16 KiB
GOOD = tar(("corpus/train/1.csv", b"one"), ("corpus/train/2.csv", b"two" * 999))


@pytest.fixture
def corpus(server):
    server.files = {"meta.csv": TEXT, "corpus.tar.gz": GOOD}
    parts = {
        "meta": part("meta.csv", TEXT, subfolder="corpus"),
        "main": part("corpus.tar.gz", GOOD, max_unpacked=100_000),
    }
    return Corpus(server.url, parts)


def everything(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_fetches_checks_and_unpacks(server, corpus, tmp_path):
    fetched = download.download(corpus, tmp_path)
    assert [p.name for p in fetched] == ["meta.csv", "corpus.tar.gz"]
    assert (tmp_path / "corpus/meta.csv").read_bytes() == TEXT
    assert (tmp_path / "corpus/train/1.csv").read_bytes() == b"one"
    assert (tmp_path / "corpus/train/2.csv").read_bytes() == b"two" * 999
    assert everything(tmp_path) == {
        *("corpus/meta.csv", "corpus/train/1.csv", "corpus/train/2.csv"),
        *(".meta.csv.done", ".corpus.tar.gz.done"),
    }


def test_second_run_asks_the_server_nothing(server, corpus, tmp_path):
    download.download(corpus, tmp_path)
    asked = len(server.log)
    assert download.download(corpus, tmp_path) == []
    assert len(server.log) == asked == 2


def test_a_lost_file_is_fetched_again(server, corpus, tmp_path):
    download.download(corpus, tmp_path)
    (tmp_path / "corpus/meta.csv").unlink()
    assert [p.name for p in download.download(corpus, tmp_path)] == ["meta.csv"]


@pytest.mark.parametrize("lost", ["corpus/train", "corpus/train/2.csv"])
def test_an_archive_whose_files_are_lost_is_fetched_again(server, corpus, tmp_path, lost):
    download.download(corpus, tmp_path)
    (shutil.rmtree if (tmp_path / lost).is_dir() else os.unlink)(tmp_path / lost)
    assert [p.name for p in download.download(corpus, tmp_path)] == ["corpus.tar.gz"]
    assert (tmp_path / "corpus/train/2.csv").read_bytes() == b"two" * 999
    assert download.download(corpus, tmp_path) == []


@pytest.mark.parametrize("stamp", ["", "[]", "{}", '{"md5": 1, "files": 2}', "no JSON"])
def test_a_damaged_stamp_counts_as_none(server, corpus, tmp_path, stamp):
    download.download(corpus, tmp_path, parts=("meta",))
    (tmp_path / ".meta.csv.done").write_text(stamp)
    (tmp_path / "corpus/meta.csv").unlink()
    assert [p.name for p in download.download(corpus, tmp_path, parts=("meta",))] == ["meta.csv"]


@pytest.mark.parametrize("length", ["many", "-5", "16384, 16384"])
def test_a_length_that_is_no_number_is_not_believed(server, corpus, tmp_path, length):
    server.length = length
    download.download(corpus, tmp_path, parts=("meta",))
    assert (tmp_path / "corpus/meta.csv").read_bytes() == TEXT


def test_only_the_parts_named(server, corpus, tmp_path):
    download.download(corpus, tmp_path, parts=("meta",))
    assert [path for path, _ in server.log] == ["/files/meta.csv"]
    with pytest.raises(DatasetError, match="unknown part 'mid'; choose from: meta, main"):
        download.download(corpus, tmp_path, parts=("mid",))


def test_cut_connections_are_resumed_where_they_stopped(server, corpus, tmp_path):
    server.cuts, server.cut_at = 2, 5000
    download.download(corpus, tmp_path, parts=("meta",))
    assert [wanted for _, wanted in server.log] == [None, "bytes=5000-", "bytes=10000-"]
    assert (tmp_path / "corpus/meta.csv").read_bytes() == TEXT


def test_a_later_run_goes_on_where_the_first_gave_up(server, corpus, tmp_path):
    server.cuts, server.cut_at = 1, 3000
    with pytest.raises(DatasetError, match=r"meta\.csv: cannot be fetched .*3,000 bytes are kept, run again"):
        download.download(corpus, tmp_path, parts=("meta",), retries=0)
    assert everything(tmp_path) == {"corpus/meta.csv.part"}
    download.download(corpus, tmp_path, parts=("meta",), retries=0)
    assert server.log[-1] == ("/files/meta.csv", "bytes=3000-")
    assert (tmp_path / "corpus/meta.csv").read_bytes() == TEXT


def test_a_server_that_cannot_resume_sends_all_again(server, corpus, tmp_path):
    server.cuts, server.cut_at, server.ranges = 1, 3000, False
    download.download(corpus, tmp_path, parts=("meta",))
    assert (tmp_path / "corpus/meta.csv").read_bytes() == TEXT


def test_gives_up_when_no_try_brings_anything(server, corpus, tmp_path):
    server.cuts, server.cut_at = 99, 0
    with pytest.raises(DatasetError, match="cannot be fetched"):
        download.download(corpus, tmp_path, parts=("meta",), retries=3)
    assert len(server.log) == 4


def test_wrong_content_is_removed_and_told(server, corpus, tmp_path):
    server.files["meta.csv"] = TEXT[:-1] + b"?"
    with pytest.raises(DatasetError, match=r"MD5 is \w{32}, published is \w{32}; the file was removed"):
        download.download(corpus, tmp_path, parts=("meta",))
    assert everything(tmp_path) == set()


def test_wrong_size_is_refused_before_reading(server, corpus, tmp_path):
    server.files["meta.csv"] = TEXT + b"more"
    with pytest.raises(DatasetError, match="offers 16,388 bytes, published are 16,384"):
        download.download(corpus, tmp_path, parts=("meta",))
    assert everything(tmp_path) == set()


def test_missing_file_is_told_at_once(server, corpus, tmp_path):
    del server.files["meta.csv"]
    with pytest.raises(DatasetError, match="HTTP Error 404"):
        download.download(corpus, tmp_path)
    assert len(server.log) == 1


def test_only_web_addresses(corpus, tmp_path):
    with pytest.raises(DatasetError, match="not a web address"):
        download.download(corpus, tmp_path, base_url=f"file://{tmp_path}")


def test_too_little_room_is_told_before_fetching(server, corpus, tmp_path):
    huge = Corpus(server.url, {"main": Part("corpus.tar.gz", 1 << 60, "0" * 32, 1)})
    with pytest.raises(DatasetError, match="GiB are needed"):
        download.download(huge, tmp_path)
    assert server.log == []


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (("../evil", b"x"), "outside the folder"),
        (("corpus/../../evil", b"x"), "outside the folder"),
        (("/tmp/evil", b"x"), "outside the folder"),
        (special("corpus/link", tarfile.SYMTYPE, "/etc/passwd"), "link or a device"),
        (special("corpus/hard", tarfile.LNKTYPE, "../../evil"), "link or a device"),
        (special("corpus/null", tarfile.CHRTYPE), "link or a device"),
        (special("corpus/pipe", tarfile.FIFOTYPE), "link or a device"),
        (("corpus/bomb", bytes(200_000)), "more than the 100,000 expected"),
    ],
)
def test_malicious_archives_unpack_nothing(server, tmp_path, entry, why):
    data = tar(("corpus/fine", b"fine"), entry)
    server.files = {"corpus.tar.gz": data}
    folder = tmp_path / "inner/data"
    with pytest.raises(DatasetError, match=why):
        download.download(Corpus(server.url, {"main": part("corpus.tar.gz", data, max_unpacked=100_000)}), folder)
    assert everything(tmp_path) == {"inner/data/corpus.tar.gz"}


def test_a_link_in_the_folder_leads_no_file_out_of_it(server, corpus, tmp_path):
    folder, outside = tmp_path / "data", tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "corpus").symlink_to(outside)
    with pytest.raises(DatasetError, match="lies outside"):
        download.download(corpus, folder, parts=("main",))
    assert everything(outside) == set()


def test_a_damaged_archive_is_told(server, tmp_path):
    data = GOOD[: len(GOOD) // 2]
    server.files = {"corpus.tar.gz": data}
    with pytest.raises(DatasetError, match="cannot be unpacked"):
        download.download(Corpus(server.url, {"main": part("corpus.tar.gz", data, max_unpacked=100_000)}), tmp_path)
    assert not (tmp_path / ".corpus.tar.gz.done").exists()


def test_published_metadata_has_the_size_and_checksum_of_the_table(shared_data):
    data = (shared_data / "musicnet/musicnet_metadata.csv").read_bytes()
    published = download.CORPORA["musicnet"].parts["metadata"]
    assert part("musicnet_metadata.csv", data, subfolder="musicnet") == published


def test_verb(server, corpus, tmp_path, monkeypatch, musicnet):
    monkeypatch.setitem(download.CORPORA, "musicnet", corpus)
    first = musicnet("download", f"--output_dir={tmp_path}", f"--base_url={server.url}", "--keep_archives")
    assert (first.status, first.stdout) == (0, f"{tmp_path}: fetched meta.csv, corpus.tar.gz\n")
    assert (tmp_path / "corpus.tar.gz").read_bytes() == GOOD
    again = musicnet("download", f"--output_dir={tmp_path}")
    assert (again.status, again.stdout) == (0, f"{tmp_path}: already complete\n")
    assert len(server.log) == 2
    server.files.clear()
    bad = musicnet("download", f"--output_dir={tmp_path / 'other'}", "--parts=meta")
    assert bad.status == 1
    assert "404" in bad.stderr
