"""Every source, every refusal and the order between them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from app.__main__ import main
from app.setting import SettingsInvalid
from app.settings import Settings, definitions, names, open_data_folder
from app.settings_table import help_text, markdown_table, table


def load(tmp_path: Path, *argv: str, environ: dict[str, str] | None = None) -> Settings:
    return Settings.load(["--data", str(tmp_path), *argv], environ or {})


def test_defaults_name_their_origin(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.port == 7860
    assert settings.model == "built-in"
    assert settings.origin("port") == "default"
    assert settings.origin("data") == "command line"
    assert settings.data == tmp_path


def test_precedence_is_line_then_environment_then_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('port = 1111\ntheme = "dark"\nbrowser = false\n')
    environ = {"CORRAL_PORT": "2222", "CORRAL_DEVICE": "cpu"}
    settings = load(tmp_path, "--port=3333", environ=environ)
    assert (settings.port, settings.origin("port")) == (3333, "command line")
    assert (settings.device, settings.origin("device")) == ("cpu", "environment")
    assert (settings.theme, settings.origin("theme")) == ("dark", "settings file")
    assert settings.browser is False
    assert load(tmp_path, environ=environ).port == 2222
    assert load(tmp_path).port == 1111


def test_data_folder_comes_from_the_environment_before_the_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 4444\n")
    settings = Settings.load([], {"CORRAL_DATA": str(tmp_path)})
    assert settings.data == tmp_path
    assert settings.port == 4444


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--prot", "1"], "--port"),
        (["--no-brwoser"], "--no-browser"),
        (["--port"], "--port needs a value"),
        (["--port", "--no-browser"], "--port needs a value"),
        (["--port", "abc"], "whole number"),
        (["--port", "0"], "between 1 and 65535"),
        (["--port", "70000"], "between 1 and 65535"),
        (["--port", "9" * 400], "whole number"),
        (["--device", "gpu"], "--device must be"),
        (["--precision", "int3"], "auto, fp32, bf16, int8, int4"),
        (["--theme", "pink"], "auto, light, dark"),
        (["--browser=maybe"], "on or off"),
        (["--hosts", "good.example,bad host"], "host name"),
        (["--hosts", "evil.example:80"], "host name"),
        (["--model", ""], "--model must be"),
        (["stray"], "no setting stray"),
    ],
)
def test_wrong_command_line_gets_one_clear_line(argv: list[str], words: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Settings.load(argv, {})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_elsewhere_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="CORRAL_PORT"):
        load(tmp_path, environ={"CORRAL_PROT": "1"})
    (tmp_path / "settings.toml").write_text("prt = 1\n")
    with pytest.raises(SettingsInvalid, match="Did you mean port"):
        load(tmp_path)
    (tmp_path / "settings.toml").write_text("port = = 1\n")
    with pytest.raises(SettingsInvalid, match="is not TOML"):
        load(tmp_path)
    (tmp_path / "settings.toml").write_text('port = "many"\n')
    with pytest.raises(SettingsInvalid, match=r"port in .*settings\.toml must be a whole number"):
        load(tmp_path)
    (tmp_path / "settings.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsInvalid, match="cannot be read"):
        load(tmp_path)


def test_relative_folders_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my-model").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(["--data", "here", "--model", "my-model"], {})
    assert settings.data == tmp_path / "here"
    assert settings.model == str(tmp_path / "my-model")
    assert Settings.load(["--data", "here", "--model", "other"], {}).model == "other"


def test_hosts_are_a_lower_case_list(tmp_path: Path) -> None:
    assert load(tmp_path, "--hosts", "Box.Local, [fe80::1]").hosts == ("box.local", "[fe80::1]")


def test_the_self_test_has_a_help_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--help"]) == main(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{option} " in printed for option in ("--probes", "--limit", "--compare", "--html"))
    assert help_text() in printed


def test_help_and_tables_name_every_setting() -> None:
    text, markdown = help_text(), markdown_table()
    for row in table():
        assert row.option in text
        assert row.variable in text
        assert row.option in markdown
        assert row.help
        assert row.range
        assert markdown.count(f"`{row.variable}`") == 1
    assert len(table()) == len(names())


def test_every_default_passes_its_own_check() -> None:
    for each in definitions():
        if each.name not in ("data", "hosts"):
            assert each.value(each.default, each.name) == each.default


@pytest.mark.skipif(os.name != "posix", reason="modes are a matter of POSIX")
def test_data_folder_is_private(tmp_path: Path) -> None:
    folder = open_data_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o755)
    open_data_folder(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_data_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsInvalid, match="--data"):
        open_data_folder(tmp_path / "file")
