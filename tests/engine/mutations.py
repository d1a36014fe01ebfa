"""Files changed at random, as bytes and as JSON."""

import json
import random
from collections.abc import Iterator
from typing import Any

PLAIN = [None, 0, -1, 1e9, 1 << 40, "", "x", "▁", [], {}, True, [1], {"type": "x"}, 12, 399]


def containers(value: Any) -> Iterator[Any]:
    """Every object and list in a parsed JSON file, the first fifty of each level."""
    if isinstance(value, dict | list) and value:
        yield value
        for inner in list(value.values() if isinstance(value, dict) else value)[:50]:
            yield from containers(inner)


def mutated_json(rng: random.Random, content: bytes) -> bytes:
    parsed = json.loads(content)
    places = list(containers(parsed))
    for _ in range(rng.choice([1, 1, 2, 4])):
        place = rng.choice(places)
        key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        if isinstance(place, dict) and rng.random() < 0.3:
            place.pop(key)
            places = list(containers(parsed)) or [[0]]
        else:
            place[key] = rng.choice(PLAIN)
    return json.dumps(parsed).encode("utf-8", "replace")


def mutated_bytes(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[at] = rng.randrange(256)
            case 1:
                del changed[at : at + rng.choice([1, 4, 50, 1000])]
            case 2:
                changed[at:at] = rng.randbytes(rng.choice([1, 3, 20]))
            case 3:
                other = rng.randrange(len(changed))
                changed[at : at + 30] = changed[other : other + 30]
            case _:
                del changed[at:]
        changed = changed or bytearray(b"x")
    return bytes(changed)
