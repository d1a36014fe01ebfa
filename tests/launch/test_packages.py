"""What pip is told by its surroundings."""

from launch.packages import pip_environment


def test_pip_is_not_led_elsewhere() -> None:
    environ = {"PIP_TARGET": "/x", "PIP_USER": "1", "PIP_INDEX_URL": "kept", "PYTHONPATH": "/x"}
    clean = pip_environment(environ)
    assert clean["PIP_INDEX_URL"] == "kept"
    assert not {"PIP_TARGET", "PIP_USER", "PYTHONPATH"} & set(clean)
