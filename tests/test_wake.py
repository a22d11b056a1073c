from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from ota_agent.wake import Wake, outlive_early_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

FOR_EVER_S = 3600.0
NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)

# A profiler is called at every call and return of its thread, which is where handlers run. Each
# round has the signal arrive one step later.
SIGNAL_AT_EACH_STEP = """
import os, signal, sys
from ota_agent.wake import Wake

wake = Wake()
wake.listen()
left = 0

def count_down(frame, event, what):
    global left
    left -= 1
    if left < 0:
        sys.setprofile(None)
        os.kill(os.getpid(), signal.SIGUSR1)

for step in range(60):
    left = step
    sys.setprofile(count_down)
    wake.wait(0.001)
    sys.setprofile(None)
print("done")
"""


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in NUMBERS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_call_before_the_sleep_is_heard_and_many_are_one() -> None:
    wake = Wake()
    for _ in range(3):
        wake.call()
    wake.wait(FOR_EVER_S)

    began = time.monotonic()
    wake.wait(0.01)  # nothing is left of the three
    assert time.monotonic() - began >= 0.01


def test_call_of_another_thread_ends_the_sleep() -> None:
    wake = Wake()
    caller = threading.Timer(0.01, wake.call)
    caller.start()
    wake.wait(FOR_EVER_S)
    caller.join()


@pytest.mark.parametrize("number", NUMBERS)
def test_signal_ends_the_sleep_and_all_but_one_ask_the_agent_to_end(number: int) -> None:
    wake = Wake()
    wake.listen()
    sender = threading.Timer(0.01, os.kill, (os.getpid(), number))
    sender.start()

    wake.wait(FOR_EVER_S)

    sender.join()
    assert wake.is_stopping is (number != signal.SIGUSR1)


def test_wish_to_end_outlives_a_later_wakeup() -> None:
    wake = Wake()
    wake.on_signal(signal.SIGTERM, None)
    wake.on_signal(signal.SIGUSR1, None)
    assert wake.is_stopping


@pytest.mark.process
def test_signal_in_the_midst_of_the_sleep_does_not_wait_for_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SIGNAL_AT_EACH_STEP],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_call_before_there_is_a_loop_does_not_end_the_process() -> None:
    outlive_early_calls()
    os.kill(os.getpid(), signal.SIGUSR1)


@pytest.mark.process
def test_child_is_not_deaf_to_the_signal_that_does_nothing_here() -> None:
    outlive_early_calls()
    done = subprocess.run(["sh", "-c", "kill -USR1 $$"], check=False)
    assert done.returncode == -signal.SIGUSR1
