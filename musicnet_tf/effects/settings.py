"""What a recording may have gone through before it is heard: settings, which `chain.apply` draws."""

from __future__ import annotations

import pydantic

from musicnet_tf.effects.kinds import (
    Clipping,
    Coding,
    Compressor,
    Equaliser,
    HighPass,
    Level,
    LowPass,
    Noise,
    Polarity,
    Room,
)


class Effects(pydantic.BaseModel):
    """Effects in the order in which `apply` puts them on, which is that of a recording: the room with its
    instruments, the microphone, the desk, the file. None moves time or pitch. The default changes nothing.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    room: Room = Room()
    noise: Noise = Noise()
    equaliser: Equaliser = Equaliser()
    high_pass: HighPass = HighPass()
    low_pass: LowPass = LowPass()
    compressor: Compressor = Compressor()
    clipping: Clipping = Clipping()
    polarity: Polarity = Polarity()
    level: Level = Level()
    codec: Coding = Coding()


RECORDED = Effects(
    room=Room(probability=0.7),
    noise=Noise(probability=0.6),
    equaliser=Equaliser(probability=0.7),
    high_pass=HighPass(probability=0.3),
    low_pass=LowPass(probability=0.2),
    compressor=Compressor(probability=0.3),
    clipping=Clipping(probability=0.05),
    polarity=Polarity(probability=0.5),
    level=Level(probability=1.0),
    codec=Coding(probability=0.3),
)
"""What recordings are like, by ear: most in some room, some noisy, some coded, none at one level."""
