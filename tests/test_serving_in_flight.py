"""Several messages at once: their order, how many there are, who may send them, and what is left where one fails."""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scripted_servers import CLASSES, FRAMES, SERVERS, WINDOW, Hang, Refuse, Script, heard

from musicnet_tf.errors import ServingError
from serving import aio, client
from serving.client import Options
from serving.exchange import Refusal

pytest_plugins = ["serving_fixtures"]
WINDOWS = np.arange(5 * WINDOW, dtype=np.float32).reshape(5, WINDOW) / 64
ONE = WINDOWS[:1]


def test_answers_come_in_order_and_so_many_are_in_flight(play):
    """The first message is answered once three others have come, and no more come before."""
    arrived, released, most = threading.Semaphore(0), threading.Event(), []
    script = Script(*[Hang(released)] * 4)
    script.meanwhile = arrived.release
    predictor = play(script, Options(in_flight=4))
    while arrived.acquire(blocking=False):
        pass  # those of connecting

    def release():
        for _ in range(4):
            arrived.acquire()
        most.append(len(script.predictions()))
        released.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    taken = []

    def batches():
        for start in range(20):
            taken.append(start)
            yield np.full((1, WINDOW), start, np.float32)

    answers = predictor.map(batches())
    assert taken == []
    first = next(answers)
    releasing.join()
    assert most == [4]
    assert taken[-1] <= 4
    found = [float(heads["frame"][0, 0, 0]) for heads in itertools.chain([first], answers)]
    assert found == list(range(20))


def test_a_batch_of_several_messages_comes_back_whole(play):
    script = Script()
    predictor = play(script, Options(max_windows=2))
    batches = [WINDOWS, WINDOWS[:1], WINDOWS[:0], WINDOWS[1:4]]
    for batch, heads in zip(batches, predictor.map(batches), strict=True):
        np.testing.assert_array_equal(heads["frame"], heard(batch).reshape(-1, FRAMES, CLASSES))
    assert sorted(request.windows for request in script.predictions()) == [1, 1, 1, 2, 2, 2]


def test_who_stops_listening_is_sent_nothing_more(play):
    script = Script()
    predictor = play(script, Options(in_flight=2))
    answers = predictor.map(itertools.repeat(ONE))
    for _ in range(3):
        next(answers)
    answers.close()
    assert 3 <= len(script.predictions()) <= 3 + 2
    np.testing.assert_array_equal(predictor(ONE)["frame"], heard(ONE))


def test_several_threads_may_share_a_predictor(scheme):
    with SERVERS[scheme](Script()) as target, client.connect(f"{scheme}://{target}/echo") as predictor:
        batches = [np.full((3, WINDOW), number, np.float32) for number in range(24)]
        with ThreadPoolExecutor(6) as threads:
            for batch, found in zip(batches, threads.map(predictor, batches), strict=True):
                np.testing.assert_array_equal(found["frame"], heard(batch))


def test_several_coroutines_may_share_a_predictor_and_may_be_cancelled(scheme):
    arrived, released = threading.Event(), threading.Event()
    script = Script()

    async def work(target):
        async with await aio.connect(f"{scheme}://{target}/echo") as predictor:
            batches = [np.full((3, WINDOW), number, np.float32) for number in range(24)]
            for batch, found in zip(batches, await asyncio.gather(*map(predictor, batches)), strict=True):
                np.testing.assert_array_equal(found["frame"], heard(batch))
            script.then(Hang(released))
            script.meanwhile = arrived.set
            hanging = asyncio.create_task(predictor(ONE))
            await asyncio.to_thread(arrived.wait, 30)
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            released.set()
            np.testing.assert_array_equal((await predictor(ONE))["frame"], heard(ONE))

    with SERVERS[scheme](script) as target:
        asyncio.run(work(target))


def test_batches_may_come_asynchronously(scheme):
    async def batches():
        for number in range(9):
            await asyncio.sleep(0)
            yield np.full((2, WINDOW), number, np.float32)

    async def work(target):
        async with await aio.connect(f"{scheme}://{target}/echo") as predictor:
            return [heads["frame"][1, 0, 0] async for heads in predictor.map(batches())]

    with SERVERS[scheme](Script()) as target:
        assert asyncio.run(work(target)) == list(range(9))


def test_several_failures_at_once_are_told_once(caplog):
    """The first message fails last, when the others' failures wait to be heard."""

    class Failing:
        def __init__(self):
            self.others, self.all_failed = 0, asyncio.Event()

        async def send(self, question, timeout):
            if question.inputs["windows"][0, 0] == 0:
                await self.all_failed.wait()
                await asyncio.sleep(0)
            else:
                self.others += 1
                if self.others == 3:
                    self.all_failed.set()
            raise Refusal("INVALID_ARGUMENT")

    async def work(target):
        async with await aio.connect(f"grpc://{target}/echo", Options(in_flight=4)) as predictor:
            predictor._transport = Failing()
            with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
                async for _ in predictor.map(np.full((1, WINDOW), number, np.float32) for number in range(9)):
                    pass
            assert predictor._transport.others == 3
        gc.collect()

    with SERVERS["grpc"](Script()) as target:
        asyncio.run(work(target))
    assert caplog.records == []


def test_nothing_more_is_sent_after_a_failure(play):
    script = Script(Refuse("INVALID_ARGUMENT"))
    predictor = play(script, Options(in_flight=1))
    with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
        list(predictor.map([ONE] * 10))
    assert len(script.predictions()) == 1
    assert len(list(predictor.map([ONE] * 3))) == 3  # the predictor is as good as before


def test_a_closed_predictor_says_so(play):
    predictor = play(Script())
    predictor.close()
    predictor.close()  # once is enough
    for use in (lambda: predictor(ONE), lambda: list(predictor.map([ONE])), predictor.renew):
        with pytest.raises(ServingError, match="the predictor is closed"):
            use()


def test_clients_of_one_server_share_one_connection(scheme, connect):
    script = Script()
    with SERVERS[scheme](script) as target:
        address = f"{scheme}://{target}/echo"
        with connect(address) as first:
            with client.connect(address) as second, client.connect(address) as third:
                assert second._transport is third._transport
            first(ONE)
        with client.connect(address) as fourth, client.connect(address, Options(timeout=1)) as fifth:
            assert fourth._transport is not fifth._transport
            fourth(ONE)
