"""Fails a test in which the service holds the event loop (see loop_watch), while it is set up and torn down too."""

import os
from argparse import BooleanOptionalAction
from collections.abc import Generator

import pytest

from tests.loop_watch import LoopWatch

MARK = "holds_the_loop"
# In the environment, "1" is as good as the option.
SWITCH = "MUSTER_TEST_LOOP_WATCH"
_watch = pytest.StashKey[LoopWatch]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop-watch",
        action=BooleanOptionalAction,
        default=os.environ.get(SWITCH) == "1",
        help="fail a test in which the service holds the event loop for more than 50 ms",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        mark = item.get_closest_marker(MARK)
        if mark is not None and not (mark.args and mark.args[0]):
            raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARK} needs a reason")


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    if not session.config.getoption("loop_watch"):
        return (yield)
    with LoopWatch() as watch:
        session.config.stash[_watch] = watch
        return (yield)


def _watched(item: pytest.Item) -> Generator[None, object, object]:
    watch = item.config.stash.get(_watch, None)
    if watch is None or item.get_closest_marker(MARK) is not None:
        return (yield)
    watch.take()
    result = yield
    if holds := watch.take():
        pytest.fail("\n\n".join(map(str, holds)), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _watched(item))
