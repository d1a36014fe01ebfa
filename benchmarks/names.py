"""Does the time of a wrong sign-in tell of a name? `python -m benchmarks.names [--json]`.

Wrong passwords for the owner's name and for names that nobody has, in turn, through the whole
server; the limits on guesses are lifted for it. The gap is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import httpx

from benchmarks.served import served

ROUNDS = 100


def measure(rounds: int) -> dict[str, float]:
    """Medians in milliseconds, and their gap as a share of the known name's."""
    from storage.records import OWNER_ID

    found: dict[str, list[float]] = {"known": [], "unknown": []}
    with served() as (services, site):
        site.doors.set_password(OWNER_ID, "four words in a row")
        guesses = site.doors.guesses
        guesses.wait_seconds = lambda name: 0.0  # type: ignore[method-assign]
        url = f"http://127.0.0.1:{services.settings.port}"
        with httpx.Client(base_url=url, headers={"Origin": url}, trust_env=False) as client:
            for number in range(rounds):
                for kind, name in (("known", "owner"), ("unknown", f"nobody {number % 10}")):
                    began = time.perf_counter()
                    body = {"name": name, "password": f"wrong password {number}"}
                    answer = client.post("/corral/signin", json=body, timeout=60)
                    found[kind].append(time.perf_counter() - began)
                    assert answer.status_code == 403, answer.text
    known, unknown = (1000 * statistics.median(found[kind]) for kind in ("known", "unknown"))
    return {
        "known_milliseconds": known,
        "unknown_milliseconds": unknown,
        "gap": abs(known - unknown) / known,
    }


def main() -> None:
    """Print a line, or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    row = measure(chosen.rounds)
    if chosen.json:
        print(json.dumps(row))
        return
    print(
        f"known name {row['known_milliseconds']:.1f} ms, unknown "
        f"{row['unknown_milliseconds']:.1f} ms: {100 * row['gap']:.1f} % apart"
    )


if __name__ == "__main__":
    main()
