"""Notifications: to a real HTTP server, off by default, never with a token in sight, and never in the way."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from optimize.cli import main
from optimize.clock import now
from optimize.errors import BadInputError, StudyStoppedError
from optimize.results.launches import EndedRun
from optimize.results.states import RunState
from optimize.study.spec import NotifySpec, WorkerSpec
from optimize.study.workers.live import Total
from optimize.study.workers.notify import VARIABLE, connect_services, notifying
from tests.optimize.study.processes import arguments_of
from tests.optimize.study.studies import rows, small_spec

TOTAL = Total("s", 3, 4, 1.5, 1, None)
SECRET = "s3cr3t-token"


class Inbox(BaseHTTPRequestHandler):
    """A service that takes every message, or refuses all."""

    received: list[dict[str, str]]
    answer: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append(json.loads(body) if body.startswith(b"{") else {})
        self.send_response(self.answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """A loopback service and the messages it received."""

    daemon_threads = True

    def __init__(self, answer: int = 200) -> None:
        self.received: list[dict[str, str]] = []
        handler = type("Own", (Inbox,), {"received": self.received, "answer": answer})
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/{SECRET}"


@pytest.fixture
def service() -> Iterator[Server]:
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def ended(state: str, kind: str | None = None) -> EndedRun:
    return EndedRun("u", 0, 1, RunState(state), None, None, kind, "words", 1.0, now())


def test_it_is_off_without_a_url() -> None:
    assert connect_services(NotifySpec()) == []
    with notifying(NotifySpec(), [], "s", pytest.fail) as notifier:
        for _ in range(4):
            notifier.run_ended(ended("FAIL", "bug"), TOTAL)
    assert notifier.threads == []


def test_a_finished_study_is_told(service: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, f" {service.url}  {service.url}/second ")
    services = connect_services(NotifySpec())
    assert [service.scheme for service in services] == ["json://"] * 2
    with notifying(NotifySpec(), services, "mine", pytest.fail) as notifier:
        notifier.run_ended(ended("COMPLETE"), TOTAL)
    assert [(each["title"], each["message"], each["type"]) for each in service.received] == 2 * [
        ("walkforge mine", "the study is at its cap (3/4 trials, best +1.50, 1 failed)", "success")
    ]


@pytest.mark.parametrize(
    ("error", "words", "kind"),
    [
        (StudyStoppedError("5 trials in a row failed"), "5 trials in a row failed", "failure"),
        (KeyboardInterrupt(), "it was interrupted: the same command resumes it", "warning"),
        (ValueError(SECRET), "ValueError: the same command resumes it", "failure"),
    ],
)
def test_a_stopped_study_is_told_and_its_error_goes_on(
    service: Server, error: BaseException, words: str, kind: str
) -> None:
    spec = NotifySpec(urls=[service.url])
    with pytest.raises(type(error)), notifying(spec, connect_services(spec), "mine", pytest.fail):
        raise error
    assert [(each["message"], each["type"]) for each in service.received] == [(words, kind)]


def test_bad_input_is_told_to_whoever_typed_it_alone(service: Server) -> None:
    spec = NotifySpec(urls=[service.url])
    with pytest.raises(BadInputError), notifying(spec, connect_services(spec), "mine", pytest.fail):
        raise BadInputError("no such key")
    assert service.received == []


def test_a_repeated_failure_is_told_once_a_row_and_only_if_asked_for(service: Server) -> None:
    spec = NotifySpec(urls=[service.url], events=["failure"])
    with notifying(spec, connect_services(spec), "mine", pytest.fail) as notifier:
        for state in ("FAIL", "FAIL", "RETRIED", "PRUNED", "FAIL", "FAIL", "RETRIED", "FAIL", "FAIL"):
            notifier.run_ended(ended(state, "bug"), TOTAL)
    assert [(each["message"], each["type"]) for each in service.received] == [
        ("3 trials in a row failed, the last with bug: words", "warning")
    ]


@pytest.mark.parametrize("hold_s", [0.0, 30.0])
def test_failures_that_stop_the_study_at_once_are_one_word(
    service: Server, monkeypatch: pytest.MonkeyPatch, hold_s: float
) -> None:
    monkeypatch.setattr("optimize.study.workers.notify.HOLD_S", hold_s)
    spec = NotifySpec(urls=[service.url])

    def fail() -> None:
        with notifying(spec, connect_services(spec), "mine", pytest.fail) as notifier:
            for _ in range(3):
                notifier.run_ended(ended("FAIL", "bug"), TOTAL)
            while not hold_s and not service.received:
                time.sleep(0.01)
            raise StudyStoppedError("3 trials failed alike")

    with pytest.raises(StudyStoppedError):
        fail()
    told = [each["type"] for each in service.received]
    assert told == (["failure"] if hold_s else ["warning", "failure"])


def test_a_service_that_refuses_is_said_once_without_the_token(
    service: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    with Server(answer=500) as server:
        spec = NotifySpec(urls=[service.url, server.url.replace("json", "xml")], events=["stop"])
        complaints: list[str] = []
        with notifying(spec, connect_services(spec), "mine", complaints.append) as notifier:
            for _ in range(2):
                notifier.send("stop", "one", "failure")
                notifier.close()
        server.shutdown()
    assert complaints == [
        "a notification about mine could not be sent to xml://... (the service did not take it); the study "
        "goes on"
    ]
    assert len(service.received) == 2
    assert SECRET not in "".join(capfd.readouterr())


@pytest.mark.parametrize("url", [f"foo://{SECRET}@host", SECRET, "tgram://", ""])
def test_a_bad_url_is_refused_in_one_line_without_its_token(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInputError, match=r"^notify\.urls\[1\]: apprise has no service") as error:
        connect_services(NotifySpec(urls=["json://127.0.0.1:1", url]))
    assert SECRET not in str(error.value)
    assert "\n" not in str(error.value)
    monkeypatch.setenv(VARIABLE, url or "nothing")
    with pytest.raises(BadInputError, match=f"^{VARIABLE}: "):
        connect_services(NotifySpec())
    assert SECRET not in "".join(capfd.readouterr())


def test_occasions_are_checked_and_apprise_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        BadInputError, match=r"notify\.events=\['end'\] is not allowed: .*finish, stop, failure"
    ):
        NotifySpec(events=["end"])
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(BadInputError, match=r"pip install .* -e '\.\[notify\]'"):
        connect_services(NotifySpec(urls=["json://127.0.0.1"]))
    assert SECRET not in repr(NotifySpec(urls=[SECRET]))


@pytest.mark.usefixtures("forked_workers")
def test_a_study_tells_its_end_and_stores_no_url(tmp_path: Path, service: Server) -> None:
    spec = small_spec(tmp_path, n_trials=1, worker=WorkerSpec(count=1))
    assert main(["study", *arguments_of(spec, f"notify.urls=['{service.url}']")]) == 0
    assert [each["message"].split(" (")[0] for each in service.received] == ["the study is at its cap"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "config.json" for path in files)
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
    assert rows(spec, "SELECT COUNT(*) FROM wf_runs") == [(1,)]


def test_a_bad_url_ends_the_launch_before_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments_of(small_spec(tmp_path), f"notify.urls=[foo://{SECRET}]")]) == 2
    out, error = capfd.readouterr()
    assert error.count("\n") == 1
    assert SECRET not in out + error
    assert not list(tmp_path.iterdir())
