from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ota_agent import config
from ota_agent.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

INLINE = '{"source": {"type": "git", "url": "https://git.example.com/fw.git"}}'
TOKEN = "glpat-0123456789"


def token_file(directory: Path, content: str = f"{TOKEN}\n", *, mode: int = 0o600) -> Path:
    file = directory / "gitlab-token"
    file.write_text(content, encoding="utf-8")
    file.chmod(mode)
    return file


def token_of(loaded: config.Loaded) -> str:
    assert loaded.config.credentials is not None
    return loaded.config.credentials.token.get_secret_value()


def test_token_alone_gets_the_name_that_gitlab_ignores() -> None:
    loaded = config.load(INLINE, {"GITLAB_TOKEN": TOKEN})
    assert loaded.config.credentials is not None
    assert (token_of(loaded), loaded.config.credentials.username) == (TOKEN, "oauth2")
    assert loaded.origins["credentials.token"] == "GITLAB_TOKEN"
    assert loaded.origins["credentials.username"] == "default"


def test_deploy_token_has_its_own_name() -> None:
    loaded = config.load(INLINE, {"GITLAB_TOKEN": TOKEN, "GITLAB_USERNAME": "gitlab+deploy-1"})
    assert loaded.config.credentials is not None
    assert loaded.config.credentials.username == "gitlab+deploy-1"


def test_token_is_read_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    file = token_file(tmp_path)
    loaded = config.load(INLINE, {"GITLAB_TOKEN_FILE": str(file)})
    assert token_of(loaded) == TOKEN
    assert loaded.origins["credentials.token"] == f"GITLAB_TOKEN_FILE {file}"
    assert loaded.warnings == ()


def test_file_that_everybody_can_read_is_used_with_a_warning(tmp_path: Path) -> None:
    file = token_file(tmp_path, mode=0o644)
    loaded = config.load(INLINE, {"GITLAB_TOKEN_FILE": str(file)})
    assert token_of(loaded) == TOKEN
    assert f"chmod 0600 {file}" in loaded.warnings[0]


def test_credentials_of_systemd_are_found(tmp_path: Path) -> None:
    token_file(tmp_path)
    (tmp_path / "gitlab-username").write_text("device\n", encoding="utf-8")
    loaded = config.load(INLINE, {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert loaded.config.credentials is not None
    assert (token_of(loaded), loaded.config.credentials.username) == (TOKEN, "device")


def test_directory_of_systemd_without_a_token_gives_no_credentials(tmp_path: Path) -> None:
    assert config.load(INLINE, {"CREDENTIALS_DIRECTORY": str(tmp_path)}).config.credentials is None


def test_variable_goes_before_the_file_and_says_so(tmp_path: Path) -> None:
    environ = {"GITLAB_TOKEN": "glpat-other", "GITLAB_TOKEN_FILE": str(token_file(tmp_path))}
    loaded = config.load(INLINE, environ)
    assert token_of(loaded) == "glpat-other"
    assert "both set" in loaded.warnings[0]


def test_user_without_a_token_is_not_used_and_says_so() -> None:
    loaded = config.load(INLINE, {"GITLAB_USERNAME": "device"})
    assert loaded.config.credentials is None
    assert "GITLAB_USERNAME" in loaded.warnings[0]


@pytest.mark.parametrize("content", ["", "\n", "two words", "two\nlines", f"{TOKEN}\x07", "tökén"])
def test_file_without_one_token_is_refused_without_its_content(
    content: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(INLINE, {"GITLAB_TOKEN_FILE": str(token_file(tmp_path, content))})
    assert "GITLAB_TOKEN_FILE" in str(caught.value)
    assert not content.strip() or content.strip() not in str(caught.value)


def test_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        config.load(INLINE, {"GITLAB_TOKEN_FILE": str(tmp_path / "none")})


def test_token_shows_in_no_rendering() -> None:
    loaded = config.load(INLINE, {"GITLAB_TOKEN": TOKEN})
    shown = f"{loaded} {loaded!r} {loaded.config.model_dump_json()} {loaded.config.model_dump()}"
    assert TOKEN not in shown
