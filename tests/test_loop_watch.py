import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from sqlalchemy.util import greenlet_spawn

from tests.loop_watch import LIMIT_SECONDS, Hold, LoopWatch
from tests.loop_watch_plugin import SWITCH
from tests.pace import Pace

ROOT = Path(__file__).parent.parent
SLEEP_SECONDS = 0.3


# Uses so much processor time, however long it takes. In no file of the tests: what they do is not counted.
COMPUTE = f"""
import time

def compute(seconds={SLEEP_SECONDS}):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
"""
_library: dict[str, Any] = {}
exec(COMPUTE, _library)
compute = _library["compute"]


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[LoopWatch]:
    """Takes what is in `tmp_path` for the service."""
    with LoopWatch(service=tmp_path) as watch:
        yield watch


class Service:
    """Functions whose code says that it is in `tmp_path`."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "service.py"

    def function(self, source: str, **names: Any) -> Any:
        """The one that the source defines as `act`."""
        code = dedent(source).strip() + "\n"
        self.path.write_text(code)
        names |= {"asyncio": asyncio, "gc": gc, "time": time, "compute": compute, "greenlet_spawn": greenlet_spawn}
        exec(compile(code, str(self.path), "exec"), names)
        return names["act"]


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


async def in_turns_of_its_own(work: Coroutine[Any, Any, None]) -> None:
    """A turn is judged when it ends, and the test's own goes on."""
    await asyncio.create_task(work)


def only(holds: list[Hold]) -> Hold:
    assert len(holds) == 1, "\n".join(map(str, holds))
    return holds[0]


class TestFound:
    async def test_a_sleeping_thread_with_the_line_that_sleeps(self, watch: LoopWatch, service: Service) -> None:
        act = service.function(f"""
            async def act():
                sleep()

            def sleep():
                time.sleep({SLEEP_SECONDS})
        """)
        await in_turns_of_its_own(act())
        hold = only(watch.take())
        assert [place.line for place in hold.stack] == [2, 5]
        assert f"time.sleep({SLEEP_SECONDS})" in str(hold)
        assert str(service.path) in str(hold)

    async def test_a_busy_loop(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                compute()
        """)
        await in_turns_of_its_own(act())
        assert [place.code.co_name for place in only(watch.take()).stack] == ["act", "compute"]

    async def test_one_call_that_keeps_the_interpreter(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act(numbers):
                end = time.thread_time() + 0.3
                while time.thread_time() < end:
                    sum(numbers)
        """)
        await in_turns_of_its_own(act(range(5_000_000)))
        assert only(watch.take()).stack[0].line == 4

    async def test_a_callback_that_is_no_task(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            def act(done):
                compute()
                done.set()
        """)
        done = asyncio.Event()
        asyncio.get_running_loop().call_soon(act, done)
        await done.wait()
        assert only(watch.take()).stack[0].code.co_name == "act"

    async def test_sleep_on_a_slow_machine(
        self, watch: LoopWatch, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "slowness", lambda self: 10.0)
        act = service.function(f"""
            async def act():
                time.sleep({SLEEP_SECONDS})
        """)
        await in_turns_of_its_own(act())
        hold = only(watch.take())
        assert hold.computing < LIMIT_SECONDS < hold.seconds

    async def test_what_is_called_through_sqlalchemy(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                await greenlet_spawn(compute)
        """)
        await in_turns_of_its_own(act())
        names = [place.code.co_name for place in only(watch.take()).stack]
        assert (names[0], names[-1]) == ("act", "compute")

    async def test_the_interpreter_kept_by_another_thread_names_it(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act(thread):
                thread.start()
                while thread.is_alive():
                    time.sleep(0)

            def count():
                compute()
        """)
        thread = threading.Thread(target=act.__globals__["count"])
        await in_turns_of_its_own(act(thread))
        assert "count" in {place.code.co_name for stack in only(watch.take()).other_threads for place in stack}


class TestNotFound:
    async def test_waiting(self, watch: LoopWatch, service: Service) -> None:
        act = service.function(f"""
            async def act():
                await asyncio.sleep({SLEEP_SECONDS})
        """)
        await in_turns_of_its_own(act())
        assert watch.take() == []

    async def test_work_in_a_thread(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                await asyncio.to_thread(compute)
        """)
        await in_turns_of_its_own(act())
        assert watch.take() == []

    async def test_many_short_turns(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                for _ in range(100):
                    compute(0.005)
                    await asyncio.sleep(0)
        """)
        await in_turns_of_its_own(act())
        assert watch.take() == []

    async def test_a_test_that_blocks(self, watch: LoopWatch) -> None:
        compute()
        await asyncio.sleep(0)
        assert watch.take() == []

    async def test_what_a_test_does_before_it_calls(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                compute(0.02)
        """)

        async def call() -> None:
            await act()

        async def compute_and_call() -> None:
            # One call, in which the watcher cannot look.
            sum(range(20_000_000))
            await call()

        await in_turns_of_its_own(compute_and_call())
        assert watch.take() == []

    async def test_what_a_test_does_when_it_is_called(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act(double):
                double()
        """)
        await in_turns_of_its_own(act(lambda: time.sleep(SLEEP_SECONDS)))
        assert watch.take() == []

    async def test_a_thread_that_waits_for_a_processor_to_start_on(self, watch: LoopWatch, service: Service) -> None:
        act = service.function(f"""
            async def act(thread):
                thread._started.wait = lambda: time.sleep({SLEEP_SECONDS})
                thread.start()
        """)
        thread = threading.Thread(target=lambda: None)
        await in_turns_of_its_own(act(thread))
        thread.join()
        assert watch.take() == []

    async def test_a_plain_function_that_a_test_calls(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            def act():
                compute()
        """)
        act()
        await asyncio.sleep(0)
        assert watch.take() == []

    async def test_starting_and_stopping(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def _lifespan():
                compute()

            act = _lifespan
        """)
        await in_turns_of_its_own(act())
        assert watch.take() == []

    async def test_what_only_a_slow_machine_makes_long(
        self, watch: LoopWatch, service: Service, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Pace, "slowness", lambda self: SLEEP_SECONDS / LIMIT_SECONDS * 2)
        act = service.function("""
            async def act():
                compute()
        """)
        await in_turns_of_its_own(act())
        assert watch.take() == []

    async def test_collecting_garbage(self, watch: LoopWatch, service: Service) -> None:
        act = service.function("""
            async def act():
                end = time.thread_time() + 0.1
                while time.thread_time() < end:
                    gc.collect()
        """)
        held = [[number] for number in range(200_000)]
        await in_turns_of_its_own(act())
        assert watch.take() == []
        del held


SUITE = """
    import time
    import pytest

    namespace = {{"time": time}}
    exec(compile("async def act(): time.sleep({seconds})", {path!r}, "exec"), namespace)
    act = namespace["act"]

    @pytest.fixture(scope="session")
    def anyio_backend():
        return "asyncio"

    @pytest.fixture
    async def acted():
        await act()

    @pytest.fixture
    async def acts_later():
        yield
        await act()

    async def test_call():
        await act()

    async def test_setup(acted):
        pass

    async def test_teardown(acts_later):
        pass

    async def test_nothing():
        pass

    @pytest.mark.holds_the_loop("it is its purpose")
    async def test_exempt(acted):
        await act()
"""


class TestPlugin:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Any:
        def run(source: str, *options: str, **environment: str) -> str:
            (tmp_path / "test_it.py").write_text(source)
            (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\nmarkers = holds_the_loop(reason): x\n")
            others = {name: value for name, value in os.environ.items() if name != SWITCH}
            command = [sys.executable, "-m", "pytest", "-p", "tests.loop_watch_plugin", "-p", "no:cacheprovider", "-rA"]
            done = subprocess.run(
                [*command, *options],
                cwd=tmp_path,
                env={**others, "PYTHONPATH": str(ROOT), **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            return done.stdout + done.stderr

        return run

    @pytest.fixture
    def suite(self) -> str:
        return dedent(SUITE).format(seconds=SLEEP_SECONDS, path=str(ROOT / "app" / "imagined.py"))

    def test_it_fails_in_each_phase_but_for_the_exempt(self, run: Any, suite: str) -> None:
        output = run(suite, "--loop-watch")
        assert "2 errors" in output, output
        assert "FAILED test_it.py::test_call" in output
        assert "ERROR test_it.py::test_setup" in output
        assert "ERROR test_it.py::test_teardown" in output
        assert "PASSED test_it.py::test_nothing" in output
        assert "PASSED test_it.py::test_exempt" in output
        assert "app/imagined.py" in output

    def test_it_has_to_be_asked_for(self, run: Any, suite: str) -> None:
        assert "5 passed" in run(suite)

    def test_the_environment_can_ask_for_it_and_the_option_against_it(self, run: Any, suite: str) -> None:
        assert "2 errors" in run(suite, **{SWITCH: "1"})
        assert "5 passed" in run(suite, "--no-loop-watch", **{SWITCH: "1"})

    def test_an_exemption_needs_a_reason(self, run: Any) -> None:
        output = run("import pytest\n\n@pytest.mark.holds_the_loop\ndef test_it():\n    pass\n")
        assert "needs a reason" in output
