"""Put on PYTHONPATH by the fixture `guarded_environment`: Python imports it at every start."""

from tests import network_guard

network_guard.install()
