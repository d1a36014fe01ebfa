"""What a started Corral inherits from the terminal, and what it does not."""

import os
import stat
from pathlib import Path

from app.settings import Settings
from launch.environment import clean_environment
from launch.start import absolute, absolute_environ


def test_nothing_inherited_can_share_open_or_report(tmp_path: Path) -> None:
    inherited = {
        "GRADIO_SHARE": "True",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_ALLOWED_PATHS": "/",
        "gradio_root_path": "/elsewhere",
        "GRADIO_ANALYTICS_ENABLED": "True",
        "GRADIO_TEMP_DIR": "/tmp",
        "PYTHONHOME": "/elsewhere",
        "PYTHONPATH": "/elsewhere",
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_OFFLINE": "0",
        "LANG": "C.UTF-8",
    }
    clean = clean_environment(tmp_path, inherited)
    gradio = {name: value for name, value in clean.items() if name.upper().startswith("GRADIO_")}
    assert gradio == {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(tmp_path / "run" / "page"),
    }
    assert clean["HF_HUB_OFFLINE"] == clean["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not {"PYTHONHOME", "PYTHONDONTWRITEBYTECODE"} & set(clean)
    assert "/elsewhere" not in clean["PYTHONPATH"]
    assert clean["LANG"] == "C.UTF-8"


def test_loopback_bypasses_a_proxy_beside_what_was_there(tmp_path: Path) -> None:
    clean = clean_environment(tmp_path, {"no_proxy": "corp.example, localhost"})
    assert clean["no_proxy"] == "corp.example,localhost,127.0.0.1,::1"
    assert clean["NO_PROXY"] == "127.0.0.1,localhost,::1"


def test_relative_choices_survive_the_change_of_folder(tmp_path: Path, monkeypatch: object) -> None:
    folder = Path(os.path.relpath(tmp_path)) / "model"
    folder.mkdir()
    argv = ["--model", str(folder), "--data", os.path.relpath(tmp_path)]
    settings = Settings.load(argv, {})
    again = Settings.load(absolute(settings, argv), {})
    assert again.data == settings.data
    assert again.data.is_absolute()
    assert Path(again.model).is_absolute()
    named = Settings.load([], {"CORRAL_MODEL": str(folder)})
    assert absolute_environ(named, {"CORRAL_MODEL": str(folder)})["CORRAL_MODEL"] == named.model


def test_the_data_folder_is_private(tmp_path: Path) -> None:
    from launch.place import prepare_data_folder

    data = tmp_path / "corral"
    prepare_data_folder(data)
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((data / "run" / "page").stat().st_mode) == 0o700
    assert list((data / "run" / "empty").iterdir()) == []
