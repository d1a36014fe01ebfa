"""What the page costs, and how soon it shows: `python -m benchmarks.page [--json]`.

Server cost of one streamed update with 10, 100 and 1,000 messages before it: CPU time of the
process while another one takes the page's stream of a scripted answer, less that of the same answer
with a quarter of the updates (what an answer takes besides is in both); the median of five. The
time a browser takes to open each of these chats; how long after the gate released them the first
words are in its document; how often each of n followers is served; and the search as the page asks
for it, over 200,000 messages. Wants an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import time
from threading import Thread
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from benchmarks.attached import Reader
from benchmarks.served import page_at, served

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from app.job import Job
    from app.services import Services
    from storage.connection import Database

SIZES = (10, 100, 1_000)
NUM_TOKENS, SECONDS_PER_TOKEN = 200, 0.025  # an answer of five seconds
NUM_ANSWERS = 5  # of which medians are told
FOLLOWERS = (1, 5, 20)
NUM_SEARCHED, NUM_SEARCHES = 200_000, 200
WORDS = ("llama", "alpaca", "grass", "hill", "wool", "river", "stone", "cloud", "美洲驼", "草地")

# When the page shows the first words: noted by the browser itself, on the same machine's clock.
_NOTE_FIRST_WORDS = """() => { window.shown = 0; new MutationObserver(() => {
  const md = document.querySelector('#live .turn > .md');
  if (md && md.textContent && !window.shown) window.shown = Date.now(); })
  .observe(document.getElementById('live'),
  {childList: true, subtree: true, characterData: true}); }"""


def scripted(services: Services) -> None:
    """An engine that writes at a steady pace and a guard that costs next to nothing."""
    from app.parts import Part
    from engine.scripted import ScriptedEngine
    from safety.base import Verdict

    reply = " ".join(f"word{n}" for n in range(NUM_TOKENS))
    engine = ScriptedEngine([reply], seconds_per_token=SECONDS_PER_TOKEN, context_length=1 << 20)
    guard = SimpleNamespace(name="none", version="1", judge=lambda prompt, reply=None: Verdict(0.0))
    services.engine.replace(lambda: engine)
    services.guard.replace(lambda: guard)
    for part in (services.engine, services.guard):
        assert isinstance(part, Part)
        part.wait(services.closing)


def chat_of(services: Services, num_messages: int) -> str:
    """A conversation with so many messages; its key."""
    at = int(time.time() * 1000)
    messages = [
        {
            "id": n,
            "parent": n - 1 or None,
            "role": "user" if n % 2 else "assistant",
            "status": "done",
            "content": " ".join(random.choices(WORDS, k=120)),
            "created_at": at,
        }
        for n in range(1, num_messages + 1)
    ]
    document = {"title": f"{num_messages} messages", "messages": messages}
    return services.store.add_document(1, document).key


def shown(services: Services, page: Page, key: str) -> dict[str, float]:
    """Open a chat in the browser, and have it answered there."""
    page.click("[data-act=new]")
    page.wait_for_selector("#window .empty")
    row = f"#listing [data-act=open][data-key='{key}']"
    opened = page.evaluate(
        """([row, key]) => new Promise((done) => { const begin = performance.now();
        document.querySelector(row).click(); const look = () => {
        if (location.search.includes(key) && document.querySelector('#window .turn'))
        done(performance.now() - begin); else requestAnimationFrame(look); }; look(); })""",
        [row, key],
    )
    waits = []
    for _ in range(NUM_ANSWERS):
        page.evaluate(_NOTE_FIRST_WORDS)
        page.fill("#ask", "go")
        page.press("#ask", "Enter")
        job = running(services, key)
        page.wait_for_function("() => !document.body.matches('.answering, .sending')")
        waits.append(page.evaluate("window.shown") / 1000 - job.view().released_at)
    return {
        "open_milliseconds": opened,
        "first_words_milliseconds": 1000 * statistics.median(waits),
        "first_words_milliseconds_at_most": 1000 * max(waits),
    }


def running(services: Services, key: str) -> Job:
    """The job that answers in a conversation, as soon as there is one."""
    from app.job import Job

    while (job := services.jobs.running(1, key)) is None:
        time.sleep(0.005)
    assert isinstance(job, Job)
    return job


def update_cost(services: Services, reader: Reader, key: str) -> float:
    """Milliseconds of processor time that one more update of an answer costs."""
    costs = []
    usual = services.jobs.rate_hz
    for _ in range(NUM_ANSWERS):
        often = read(services, reader, key)
        services.jobs.rate_hz = lambda: usual() / 4  # type: ignore[method-assign]
        seldom = read(services, reader, key)
        services.jobs.rate_hz = usual  # type: ignore[method-assign]
        spent, num_updates = (one - other for one, other in zip(often, seldom, strict=True))
        costs.append(1000 * spent / num_updates)
    return statistics.median(costs)


def read(services: Services, reader: Reader, key: str) -> tuple[float, int]:
    """An answer that the reader follows: CPU seconds of this process, and updates."""
    from app.job import Job

    views = 0
    view = Job.view

    def counted(job: Job) -> Any:
        nonlocal views
        views += 1
        return view(job)

    reading = Thread(target=reader.ask, args=(key,))
    reading.start()
    job = running(services, key)
    begin = time.process_time()
    Job.view = counted  # type: ignore[method-assign,assignment]
    while services.jobs.running(1, key) is job:
        time.sleep(0.02)
    seconds = time.process_time() - begin
    Job.view = view  # type: ignore[method-assign]
    reading.join()
    return seconds, views


def rates(services: Services) -> dict[int, float]:
    """Updates a second that each of n followers of one answer gets."""
    from app.requests import Send

    async def follow_all(job: Any, count: int) -> float:
        async def one() -> int:
            return sum([1 async for _ in job.follow(services.jobs.rate_hz)]) - 1  # those between

        begin = time.perf_counter()
        seen = await asyncio.gather(*(one() for _ in range(count)))
        return statistics.mean(seen) / (time.perf_counter() - begin)

    found = {}
    for count in FOLLOWERS:
        job = services.jobs.start(1, Send(None, None, "go", f"rate{count}"))
        found[count] = asyncio.run(follow_all(job, count))
    return found


def search(services: Services) -> float:
    """Milliseconds (95th percentile) of a search by the page's own handler."""
    from app.page.conversations import ConversationList
    from app.page.payload import Payload
    from app.page.templates import Templates
    from app.strings import Strings

    services.store._writer.call(_fill)
    listing = ConversationList(services, Templates(Strings.load("en")))
    queries = [" ".join(random.sample(WORDS, k=random.choice((1, 2)))) for _ in range(NUM_SEARCHES)]

    async def timed(query: str) -> float:
        begin = time.perf_counter()
        await listing.value(1, Payload(query=query))
        return 1000 * (time.perf_counter() - begin)

    async def all_of_them() -> list[float]:
        return [await timed(query) for query in queries]

    return statistics.quantiles(asyncio.run(all_of_them()), n=20)[-1]


def _fill(db: Database) -> None:
    """200 messages in each of 1,000 conversations, as the search index keeps them."""
    from storage.text import search_body

    first = db.execute("SELECT max(id) + 1 FROM conversation").fetchone()[0]
    begin = db.execute("SELECT max(id) + 1 FROM message").fetchone()[0]
    talks = [(first + n, f"s{n}", f"Talk {n}", n) for n in range(NUM_SEARCHED // 200)]
    db.conn.executemany(
        "INSERT INTO conversation (id, key, user_id, title, created_at, updated_at) "
        "VALUES (?, ?, 1, ?, 0, ?)",
        talks,
    )
    texts = [
        (begin + n, first + n // 200, " ".join(random.choices(WORDS, k=20)) + f" {n}")
        for n in range(NUM_SEARCHED)
    ]
    db.conn.executemany(
        "INSERT INTO message (id, user_id, conversation_id, role, status, content, created_at, "
        "updated_at) VALUES (?, 1, ?, 'user', 'done', ?, 0, 0)",
        texts,
    )
    db.conn.executemany(
        "INSERT INTO search_entry (user_id, conversation_id, message_id, body, at) "
        "VALUES (1, ?, ?, ?, 0)",
        ((talk, message, search_body(text)) for message, talk, text in texts),
    )


def measure() -> dict[str, Any]:
    """All figures of this machine."""
    random.seed(1)
    with served() as (services, site):
        scripted(services)
        keys = {size: chat_of(services, size) for size in SIZES}
        with page_at(site.entrance.url()) as page:
            found = {size: shown(services, page, keys[size]) for size in SIZES}
        reader = Reader(services, site)
        for size in SIZES:
            found[size]["milliseconds_per_update"] = update_cost(services, reader, keys[size])
        return {
            "chats": found,
            "updates_a_second": rates(services),
            "search_p95_milliseconds": search(services),
        }


def main() -> None:
    """Print the figures as a table or as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    figures = measure()
    if parser.parse_args().json:
        print(json.dumps(figures))
        return
    print("messages  ms/update  open ms  first words ms (at most)")
    for size, row in figures["chats"].items():
        print(
            f"{size:8,}  {row['milliseconds_per_update']:9.2f}"
            f"  {row['open_milliseconds']:7.0f}  {row['first_words_milliseconds']:14.0f}"
            f" ({row['first_words_milliseconds_at_most']:.0f})"
        )
    for count, rate in figures["updates_a_second"].items():
        print(f"{count:2} followers: {rate:.1f} updates a second each")
    print(f"search, p95 over {NUM_SEARCHED:,}: {figures['search_p95_milliseconds']:.1f} ms")


if __name__ == "__main__":
    main()
