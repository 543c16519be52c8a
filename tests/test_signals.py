"""Ctrl-C and SIGTERM are heeded where the work can be left."""

import signal

import pytest

from nasseg.signals import interrupts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heeded_at_the_next_look_and_a_second_one_at_once(number):
    before = signal.getsignal(number)
    with interrupts() as look:
        look()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            look()
    with interrupts():
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts() as look:
            signal.raise_signal(signal.SIGINT)
            look()
    finally:
        signal.signal(signal.SIGINT, before)
