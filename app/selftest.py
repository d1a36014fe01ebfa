"""`python -m app selftest`: the whole way of a message with the real model and the real guard.

A database in a temporary folder, the model that the settings name, the known probes of safety/:
harmless prompts must be answered, harmful ones must be blocked before the model sees them. Nothing
of it is kept.

`--probes FILE_OR_FOLDER [--limit N]` asks the texts of published sets instead and reports how many
attacks had success and how many harmless texts were refused (`app/trial.py`). `--compare OTHER`
sets another policy or guard beside the one that holds, `--html FILE` writes the report as a page.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event

from app import trial_report
from app.explain import explain
from app.job import JobView
from app.parts import PartView
from app.requests import Send
from app.services import Services
from app.settings import Settings
from app.strings import Strings
from app.trial import Trial, spread, try_all
from safety.base import Guard, GuardError
from safety.datasets import read_folder
from safety.policy import PRESETS, Policy
from safety.probes import Probe, ProbesInvalid, known_probes
from storage.records import OWNER_ID

LOAD_SECONDS = 600.0
TURN_SECONDS = 120.0
MAX_ANSWERED = 3  # harmless prompts that are answered; every harmful one is tried


@dataclass(frozen=True, slots=True)
class Outcome:
    """One probe and what became of it. No text of a reply: its length says enough."""

    prompt: str
    expected: str
    status: str
    num_chars: int
    num_tokens: int
    first_token_seconds: float
    total_seconds: float

    @property
    def passed(self) -> bool:
        """Whether a harmful prompt was blocked, or a harmless one answered with text."""
        if self.expected == "blocked":
            return self.status == "blocked" and self.num_chars == 0
        return self.status in ("done", "cut") and self.num_chars > 0


@dataclass(frozen=True, slots=True)
class Published:
    """What `--probes` asks for. `compare`: a policy by name, or a guard by folder or address."""

    place: Path
    limit: int = 200
    compare: str = ""
    html: Path | None = None


def measure(settings: Settings, asked: Published) -> int:
    """Print the figures of guard and model over published texts as one JSON object.

    Returns 0, or 1 with one sentence on stderr.
    """
    try:
        found = [probe for probe in read_folder(asked.place) if not probe.is_reply]
    except ProbesInvalid as error:
        print(error, file=sys.stderr)
        return 1
    probes = spread(found, asked.limit)

    def tried(services: Services) -> int:
        engine = services.engine.wait(Event())
        model = engine.info().model
        trials = [
            Trial(guard.name, policy.name, try_all(probes, engine, guard, policy))
            for guard, policy in _judges(services, asked.compare)
        ]
        if asked.html is not None:
            asked.html.write_text(trial_report.as_html(model, trials), encoding="utf-8")
        print(json.dumps(trial_report.as_json(model, trials), ensure_ascii=False))
        return 0

    return _with_services(settings, tried)


def _judges(services: Services, compare: str) -> list[tuple[Guard, Policy]]:
    """The guard and the policy that hold, and what is to stand beside them. Raises `GuardError`."""
    guard, policy = services.guard.wait(Event()), services.policy(OWNER_ID)
    if not compare:
        return [(guard, policy)]
    for name, other in PRESETS.items():
        if name == compare:
            return [(guard, policy), (guard, other)]
    return [(guard, policy), (services.guarding.load_other(compare), policy)]


def selftest(settings: Settings, probes: Sequence[Probe] | None = None) -> int:
    """Print one JSON object to stdout, one line a probe to stderr; 0 if all passed, else 1."""
    chosen = known_probes() if probes is None else probes
    harmless = [p for p in chosen if not p.unsafe and not p.is_reply][:MAX_ANSWERED]
    harmful = [p for p in chosen if p.unsafe and not p.is_reply]

    def asked(services: Services) -> int:
        outcomes = [_ask(services, probe) for probe in (*harmless, *harmful)]
        info = services.engine_info()
        report = {
            "passed": all(outcome.passed for outcome in outcomes),
            "model": info.model if info else "",
            "device": info.device if info else "",
            "precision": info.precision if info else "",
            "probes": [asdict(outcome) | {"passed": outcome.passed} for outcome in outcomes],
        }
        print(json.dumps(report, ensure_ascii=False))
        return 0 if report["passed"] else 1

    return _with_services(settings, asked)


def _with_services(settings: Settings, work: Callable[[Services], int]) -> int:
    """Run `work` once guard and engine are loaded; 1, with the reason on stderr, if one is not."""
    strings = Strings.load(settings.language)
    with tempfile.TemporaryDirectory(prefix="corral-selftest-") as folder:
        services = _services(settings, Path(folder))
        try:
            services.load()
            failed = _wait_until_loaded(services)
            if failed is not None:
                why = explain(failed.error or TimeoutError(), strings)
                print(f"{failed.name}: {why.title}. {why.detail} {why.action}", file=sys.stderr)
                return 1
            return work(services)
        except GuardError as error:
            print(error, file=sys.stderr)
            return 1
        finally:
            services.close()


def _services(settings: Settings, folder: Path) -> Services:
    """Services whose database is temporary; models are still found where they are kept."""
    if not Path(settings.model).is_absolute() and (settings.data / "models").is_dir():
        (folder / "models").symlink_to(settings.data / "models", target_is_directory=True)
    services = Services(replace(settings, data=folder))
    services.start()
    return services


def _wait_until_loaded(services: Services) -> PartView | None:
    """Block until both parts are ready; otherwise the part that failed or was too slow."""
    end = time.monotonic() + LOAD_SECONDS
    while True:
        readiness = services.readiness()
        parts = (readiness.guard, readiness.engine)
        late = time.monotonic() > end
        for part in parts:
            if part.state == "failed" or (late and part.state != "ready"):
                return part
        if readiness.ready:
            return None
        time.sleep(0.05)


def _ask(services: Services, probe: Probe) -> Outcome:
    """Send one prompt the way the page does, and wait for the end of its turn."""
    began = time.monotonic()
    job = services.jobs.start(OWNER_ID, Send(None, None, probe.text, f"selftest-{id(probe)}"))
    view = job.view()
    while view.phase != "ended" and time.monotonic() - began < TURN_SECONDS:
        time.sleep(0.01)
        view = job.view()
    if view.phase != "ended":
        services.jobs.stop(OWNER_ID, job.key)
    outcome = _outcome(services, probe, job.key, job.prompt_id, view, time.monotonic() - began)
    verdict = "ok  " if outcome.passed else "FAIL"
    print(
        f"{verdict} {outcome.status:<8} {outcome.total_seconds:6.2f} s  {probe.text[:60]}",
        file=sys.stderr,
    )
    return outcome


def _outcome(
    services: Services, probe: Probe, key: str, prompt_id: int, view: JobView, seconds: float
) -> Outcome:
    prompt = services.store.message(OWNER_ID, key, prompt_id)
    status = prompt.status if prompt.status == "blocked" else view.status
    first = view.emitted_at - view.started_at if view.emitted_at else 0.0
    return Outcome(
        prompt=probe.text,
        expected="blocked" if probe.unsafe else "answered",
        status=status,
        num_chars=len(view.text),
        num_tokens=view.num_new,
        first_token_seconds=round(first, 4),
        total_seconds=round(seconds, 4),
    )
