"""Write down what is played while it is played: from a microphone, a pipe, or a file that is still being written.

Examples:
    arecord -f S16_LE -r 44100 -c 2 -t raw | musicnet listen - --sample_rate=44100 --channels=2
    ffmpeg -i rtsp://camera/stream -f s16le -ar 16000 -ac 1 - | musicnet listen - --sample_rate=16000
    ffmpeg -i concert.mkv -f wav - | musicnet listen - --format=text
    musicnet listen take3.wav --follow --output_dir=OUT
    musicnet listen fugue.ogg --latency=2
    musicnet listen waltz.flac --model=beats_tcn
    musicnet listen quintet.flac --model=tags_instruments --format=text

A row is printed for each event as soon as it is sure: a JSON object with what the model's task tells of it, times in
seconds, and `heard`, the seconds of audio that had been heard by then. How much that may be after what the row tells is
said first, on standard error, as are all messages; the less, the more of the machine it takes. Nothing told is
taken back, and all of it together is what `musicnet transcribe` finds in the whole recording, which --output_dir
writes at the end. Of beats it is what `musicnet beats --method=dbn_online` finds, by what came before each; with
--set=method=dbn it is the best path through the recording, told where no other can win any more, perhaps at the end.
Of tags, rows tell where a stretch begins that bears one or does so no more. A model that tells a stretch from the chunk
around it hears less of what follows the sooner it has to tell, and so differs a little from `musicnet tag`; the longer
the --latency allows it to wait, up to a chunk, the less.

`-` is standard input: raw samples where --sample_rate is given, else a WAV, whatever length its header states. With
--follow, a WAV or raw samples that are still being written. Any other file is heard as if it were played, as fast as
the machine can. What comes while the machine is busy waits, up to 32 MiB; then the source has to. Ctrl-C or SIGTERM
ends the recording there, and a second one the program.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from absl import app, flags

import musicnet_tf.bin._server_flags as server_flags
from musicnet_tf.bin._summary import counted
from musicnet_tf.errors import MusicNetError

if TYPE_CHECKING:
    from musicnet_tf import streaming
    from musicnet_tf.decode import Decoding
    from musicnet_tf.live_audio import Pcm, ReadAhead
    from musicnet_tf.manifest import Manifest
    from musicnet_tf.writers import Format, PosteriorgramSpool

_MODEL = flags.DEFINE_string("model", None, "A shipped model's name (`musicnet list`), or a run's or export's folder.")
flags.adopt_module_key_flags(server_flags)
_LATENCY = flags.DEFINE_float(
    "latency",
    None,
    "Seconds of audio that may pass between an instant and the row that tells of it; by default what model and decoder"
    " need, and 0.3. Less takes more of the machine.",
    lower_bound=0.0,
)
_SET = flags.DEFINE_multi_string(
    "set", [], "Overrides a parameter of the decoder, such as onset_threshold=0.4 or max_bpm=160."
)
_FORMAT = flags.DEFINE_enum("format", "jsonl", ["jsonl", "text"], "Rows as JSON lines, or for people to read.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "Folder for files of the whole recording; made if need be.")
_FORMATS = flags.DEFINE_list("formats", None, "Kinds of these files, as `musicnet transcribe` names them.")
_SAMPLE_RATE = flags.DEFINE_integer("sample_rate", None, "Of raw samples, in Hz.", lower_bound=1)
_CHANNELS = flags.DEFINE_integer("channels", None, "Of raw samples; 1 by default.", lower_bound=1)
_ENCODING = flags.DEFINE_enum("encoding", None, ["s16le", "f32le"], "Of raw samples; s16le by default.")
_FOLLOW = flags.DEFINE_bool("follow", False, "The file is still being written.")
_IDLE_SECONDS = flags.DEFINE_float(
    "idle_seconds", 10.0, "A file that is followed has ended when it has not grown for so long.", lower_bound=0.0
)


class _Source(NamedTuple):
    """Where sound comes from; without `ahead` it is a whole file."""

    name: str
    pcm: Pcm | None = None
    pieces: Iterator[np.ndarray] | None = None
    ahead: ReadAhead | None = None


class _NothingHeard(Exception):  # noqa: N818  # no error: somebody wished so
    """The wish to stop came before any sound was heard."""

    def __init__(self, waiting: float = 0.0) -> None:
        super().__init__("stopped before anything was heard" + f"; {waiting:.1f} s had come" * bool(waiting))


def main(argv: list[str]) -> int:
    """Listens to what argv names until it ends, and gives the exit status."""
    _check(argv[1:])
    with _wish_to_stop() as stop:
        try:
            source = _open(argv[1], stop)  # what comes while the model is loaded is kept
            _listen(source, stop)
        except _NothingHeard as reason:
            _say(str(reason))
    return 0


def _check(paths: list[str]) -> None:
    if len(paths) != 1:
        raise app.UsageError(f"name one recording, or - for standard input, not {len(paths)}")
    server_flags.check()
    if _SAMPLE_RATE.value is None and (_CHANNELS.value or _ENCODING.value):
        raise app.UsageError("--channels and --encoding are of raw samples; give their --sample_rate, too")
    if _FOLLOW.value and paths[0] == "-":
        raise app.UsageError("--follow is for files; standard input is heard until it ends")
    if _FORMATS.value and not _OUTPUT_DIR.value:
        raise app.UsageError("--formats are of files; name their folder with --output_dir")
    if paths[0] == "-" and sys.stdin.isatty():
        raise app.UsageError("standard input is a terminal; pipe sound into it (see the examples)")


@contextlib.contextmanager
def _wish_to_stop() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second does what it does elsewhere."""
    stop = threading.Event()
    before: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def wish(number: int, frame: Any) -> None:
        restore()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, wish)
    try:
        yield stop
    finally:
        stop.set()  # the thread that reads ahead ends, too
        restore()


def _open(path: str, stop: threading.Event) -> _Source:
    from musicnet_tf import audio, live_audio

    raw = None
    if _SAMPLE_RATE.value is not None:
        encoding = live_audio.ENCODINGS[_ENCODING.value or "s16le"]
        raw = live_audio.Pcm(_SAMPLE_RATE.value, _CHANNELS.value or 1, encoding)
    if path == "-":
        name, blocks = "stdin", live_audio.of_pipe(sys.stdin.fileno())
    elif _FOLLOW.value or raw:
        idle_seconds = _IDLE_SECONDS.value if _FOLLOW.value else 0.0
        name, blocks = path, live_audio.of_growing_file(path, idle_seconds, stop.wait)
    else:
        audio.probe(path)
        return _Source(path)
    ahead = live_audio.ReadAhead(blocks, stop)
    try:
        return _Source(name, *live_audio.decode(ahead, name, raw), ahead)
    except MusicNetError as error:
        if stop.is_set():  # amid the header
            raise _NothingHeard from error
        raise


def _listen(source: _Source, stop: threading.Event) -> None:
    from musicnet_tf import decode, files, inference, streaming, transcription, validation, windowing

    overrides = validation.parse_overrides(_SET.value)
    with contextlib.ExitStack() as stack:
        remote = stack.enter_context(server_flags.connect()) if server_flags.SERVER.value else None
        manifest = remote.manifest if remote else inference.read_manifest(_model())
        decoding = decode.live_decoding_of(manifest, **overrides)
        clock = windowing.recording_clock(manifest.geometry)
        output_dir = _OUTPUT_DIR.value or ""
        formats = transcription.chosen_formats(manifest.task, _FORMATS.value) if output_dir else []
        transcription.check_heads(formats, manifest)
        rate = source.pcm.sample_rate if source.pcm else clock.sample_rate
        kept, latency = streaming.plan(manifest.geometry, decoding, rate, _LATENCY.value)
        if formats:
            files.make_folder(output_dir)
        _say(f"{manifest.name} hears {source.name}; rows come after what they tell by at most {latency}")
        predictor = remote or streaming.load(_model(), kept)
        _tell_cost(streaming.cost(predictor, kept))

        sound = streaming.Sound(_until(stop, source, clock.sample_rate), rate, clock.sample_rate, source.name)
        listener = streaming.Listener(sound, predictor, decoding, kept, stack.enter_context(_spool(manifest, formats)))
        try:
            _show(listener, sound, source)
        except (MusicNetError, BrokenPipeError) as error:
            if stop.is_set() and not sound.heard:
                raise _NothingHeard(_waiting(source)) from error
            if source.ahead and sound.heard:  # it will not be played again
                listener.finish()
                listener.write(output_dir, formats)
            raise
        listener.write(output_dir, formats, None if source.pcm else Path(source.name))
        _say(_summary(listener, sound, source, decoding))


def _tell_cost(share: float) -> None:
    _say(f"takes {share:.0%} of real time" + ", and so falls behind; allow more --latency" * (share >= 1))


def _model() -> str:
    from musicnet_tf import inference

    return _MODEL.value or inference.DEFAULT_MODEL


def _until(stop: threading.Event, source: _Source, sample_rate: int) -> Iterator[np.ndarray]:
    """The source's pieces, up to a wish to stop."""
    from musicnet_tf import audio, live_audio

    whole = source.pieces is None
    pieces = audio.blocks(source.name, sample_rate, live_audio.PIECE_SECONDS) if whole else source.pieces
    return itertools.takewhile(lambda _: not stop.is_set(), pieces or ())


def _spool(manifest: Manifest, formats: list[Format]) -> contextlib.AbstractContextManager[PosteriorgramSpool | None]:
    from musicnet_tf import windowing
    from musicnet_tf.writers import PosteriorgramSpool

    if not any(form.needs_posteriorgram for form in formats):
        return contextlib.nullcontext()
    first_pitch = next(iter(manifest.geometry.heads.values())).first_pitch
    return PosteriorgramSpool(str(_OUTPUT_DIR.value), windowing.recording_clock(manifest.geometry), first_pitch)


def _show(listener: streaming.Listener, sound: streaming.Sound, source: _Source) -> None:
    from musicnet_tf import streaming

    lag = streaming.Lag(source.ahead, source.pcm) if source.ahead and source.pcm else None
    for row in listener:
        print(_line(row), flush=True)
        if lag and (behind := lag.grew(sound.heard)):
            _say(f"warning: {behind:.1f} s of sound wait to be heard")


def _line(row: dict[str, Any]) -> str:
    row = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
    if _FORMAT.value == "jsonl":
        return json.dumps(row)
    heard, event = row.pop("heard"), row.pop("event")
    return f"{heard:9.2f} s  {event:<8}" + "".join(f"  {name} {value!s:>8}" for name, value in row.items())


def _summary(listener: streaming.Listener, sound: streaming.Sound, source: _Source, decoding: Decoding) -> str:
    found = counted(decoding.count(listener.events), decoding.noun)
    text = f"{found} in {sound.duration:.1f} s of audio"
    text += decoding.details(listener.events)
    if waiting := _waiting(source):
        text += f"; stopped, and {waiting:.1f} s that had come were not heard"
    return text + f"; outputs in {_OUTPUT_DIR.value}" * bool(_OUTPUT_DIR.value)


def _waiting(source: _Source) -> float:
    """Seconds of sound that came and were not heard."""
    return source.pcm.seconds(source.ahead.waiting) if source.pcm and source.ahead else 0.0


def _say(text: str) -> None:
    print(f"musicnet listen: {text}", file=sys.stderr, flush=True)
