"""Proxies, certificates, hub address, token: what is wrong is one line that names the variable, not its value."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clips import moving
from command import assert_refused
from command import run_process as run
from video_server import serving

from fashionflow_core import video
from fashionflow_core.utils.network import NetworkSettingError, check_network, check_token, proxies

ONLINE = {"HF_HUB_OFFLINE": "0", "HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1", "HF_TOKEN": "t"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "SSL_CERT_FILE", "HF_ENDPOINT", "HF_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A video on a server."""
    path = tmp_path / "served.mp4"
    video.write(moving(4), path, fps=10, count=4)
    with serving() as site:
        site.files["/a.mp4"] = path.read_bytes()
        yield f"{site.url}/a.mp4"


@pytest.mark.parametrize("name", ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value", ["socks://secret:1", "ftp://secret", "http://[secret", "secret:port", "http://", " http://secret", "://"]
)
def test_malformed_proxies(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NetworkSettingError, match=f"^{name}: ") as caught:
        check_network()
    assert "secret" not in caught.value.message and caught.value.hint and name in caught.value.hint


def test_socks_proxies_need_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://h:1080")
    monkeypatch.setattr("fashionflow_core.utils.network.find_spec", lambda name: None)
    with pytest.raises(NetworkSettingError, match=r"^ALL_PROXY: a SOCKS proxy needs the package socksio$"):
        check_network()
    monkeypatch.setattr("fashionflow_core.utils.network.find_spec", lambda name: name)
    check_network()


@pytest.mark.parametrize("value", ["http://user:p%40ss@proxy.example:3128", "proxy.example:3128", "https://[::1]:1/"])
def test_proxies_that_are_fine(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", value)
    monkeypatch.setenv("HTTPS_PROXY", "not looked at: http://[")
    check_network()
    assert proxies() == ["https_proxy"]


@pytest.mark.parametrize(
    "name, value",
    [
        ("HF_ENDPOINT", "nope"),
        ("HF_ENDPOINT", "http://127.0.0.1:99999"),
        ("HF_HUB_DOWNLOAD_TIMEOUT", "abc"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
        ("SSL_CERT_FILE", __file__),
    ],
)
def test_other_variables(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(NetworkSettingError, match=f"^{name}: "):
        check_network()


def test_tokens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    check_token()
    (tmp_path / "hf").mkdir()
    file = tmp_path / "hf" / "token"
    for content in (b"t\xc3\xb6k", b"\xff", b"a\nb"):
        file.write_bytes(content)
        with pytest.raises(NetworkSettingError, match=f"^{file}: invalid characters") as caught:
            check_token()
        assert caught.value.hint == "log in again: hf auth login"
    monkeypatch.setenv("HF_TOKEN", "hf_abc\n")  # stands before the file; the client strips it
    check_token()
    for name in ("HUGGING_FACE_HUB_TOKEN", "HF_TOKEN"):
        monkeypatch.setenv(name, "tökén")
        monkeypatch.delenv("HF_TOKEN") if name != "HF_TOKEN" else None
        with pytest.raises(NetworkSettingError, match=f"^{name}: invalid characters"):
            check_token()


def test_a_wrong_variable_is_one_line_of_each_command(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("http://127.0.0.1:9/a.mp4\nhttp://127.0.0.1:9/b.mp4\n")
    for command, variable, value in (
        (("data", "download", "list.txt", "-o", "d", "--quiet"), "ALL_PROXY", "socks://x"),
        (("models", "pull", "a/b", "--quiet"), "HF_TOKEN", "tökén"),
        (("generate", "a.jpg", "-o", "a.mp4"), "HF_ENDPOINT", "http://127.0.0.1:99999"),
    ):
        env = ONLINE | {"FASHIONFLOW_HOME": str(tmp_path), "NO_PROXY": "", variable: value}
        assert_refused(run(*command, cwd=tmp_path, env=env), 1, f"{variable}: ")


def test_an_address_that_cannot_be_asked_fails_alone(tmp_path: Path, address: str) -> None:
    wrong = ("http://exämple..com/x.mp4", "http://a\x01b.com/x.mp4", "http://[::1/x", "http://user:pa ss@h/x.mp4")
    (tmp_path / "list.txt").write_text("\n".join([*wrong, address]), encoding="utf-8")
    env = ONLINE | {"NO_PROXY": "127.0.0.1"}
    result = run("data", "download", "list.txt", "-o", "d", "--quiet", cwd=tmp_path, env=env)
    assert result.returncode == 3, result.stderr
    assert [line.split(":")[0] for line in result.stderr.splitlines()[:4]] == ["failed"] * 4
    assert (tmp_path / "d" / "a.mp4").is_file() and "internal" not in result.stderr
