"""The endpoint of `fashionflow serve`, as clients of OpenAI's videos API use it."""

import base64
import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from quick_model import HELD, HOLD
from serving import Server, form, picture, serving

from fashionflow_core import video
from fashionflow_core.catalogue.jobs import RunSpec
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import UsageError
from fashionflow_core.serve.addresses import PhotoFetcher
from fashionflow_core.serve.served import Endpoint
from fashionflow_core.serve.settings import ServerLimits, ServerOptions
from fashionflow_core.serve.video_request import nested, read_fields
from fashionflow_core.serve.video_store import VideoStore
from fashionflow_core.store.registry import ASSETS

# The client warns of the end of one company's service; the API is served by others.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API")
MINI, LATENT = (ModelConfig.load(ASSETS / name) for name in ("mini", "mini-latent"))
LIMITS = ServerLimits()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("serve")
    hold = folder / "hold"
    hold.touch()
    with serving(folder / "out", "--rate", "0", env={HOLD: str(hold)}) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)


def test_the_openai_client_works_unchanged(server: Server, client: openai.OpenAI, tmp_path: Path) -> None:
    (tmp_path / "dress.png").write_bytes(picture(30))
    with (tmp_path / "dress.png").open("rb") as photo:
        made = client.videos.create_and_poll(
            prompt="A summer dress", input_reference=photo, extra_body={"seed": 5}, poll_interval_ms=20
        )
    assert (made.object, made.status, made.progress, made.prompt) == ("video", "completed", 100, "A summer dress")
    assert made.completed_at is not None and made.expires_at == made.completed_at + 7 * 86_400
    assert made.to_dict()["seed"] == 5 and made.to_dict()["photo_name"] == "dress.png"
    client.videos.download_content(made.id).write_to_file(tmp_path / "dress.mp4")
    assert len(video.read(tmp_path / "dress.mp4")) == 4
    assert client.videos.download_content(made.id, variant="thumbnail").read()[:3] == b"\xff\xd8\xff"
    assert client.videos.retrieve(made.id).model == client.models.list().data[0].id
    second = client.videos.create(prompt="", input_reference=("b.png", picture(31)))
    pages = [one.id for one in client.videos.list(limit=1)]
    assert pages[:2] == [second.id, made.id]
    assert [one.id for one in client.videos.list(limit=2, order="asc")] == pages[::-1]
    assert client.videos.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(made.id)
    with pytest.raises(openai.BadRequestError, match="size"):
        client.videos.create(prompt="", input_reference=("b.png", picture()), size="tall")  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError, match="sora-2"):
        client.videos.create(prompt="", input_reference=("b.png", picture()), model="sora-2")


def test_a_photo_may_come_as_json(server: Server) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture(77)).decode()}"
    made = server.ask(
        "POST", "/v1/videos", {"input_reference": {"image_url": url}, "prompt": "x", "negative_prompt": "y"}
    )
    assert made.status == 200, made.body
    assert made.json["warnings"] == ["negative_prompt has no effect"]
    body, kind = form({"input_reference[image_url]": url})
    second = server.ask("POST", "/v1/videos", body, {"Content-Type": kind})
    assert made.json["photo_name"] == second.json["photo_name"] == ""
    assert {one["status"] for one in server.wait(made.json["id"], second.json["id"])} == {"completed"}


def test_parts_of_a_video_as_players_ask_for_them(server: Server) -> None:
    made = server.made(picture(44))
    server.wait(made)
    path = f"/v1/videos/{made}/content"
    whole = server.ask("GET", path)
    size = len(whole.body)
    assert whole.headers["content-type"] == "video/mp4" and whole.headers["accept-ranges"] == "bytes"
    for asked, part in (("0-9", whole.body[:10]), (f"{size - 5}-", whole.body[-5:]), ("-7", whole.body[-7:])):
        answer = server.ask("GET", path, headers={"Range": f"bytes={asked}"})
        assert (answer.status, answer.body) == (206, part)
        assert answer.headers["content-range"].endswith(f"/{size}")
    assert server.ask("GET", path, headers={"Range": f"bytes={size}-"}).status == 416
    head = server.ask("HEAD", path)
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(size))
    assert server.ask("GET", f"{path}?variant=photo").body == picture(44)
    assert server.ask("GET", f"{path}?variant=spritesheet").status == 400


def test_progress_comes_as_events(server: Server) -> None:
    hold = server.folder.parent / "hold"
    made = server.made(picture(250, 5, HELD))
    found: list[dict[str, Any]] = []

    def listen() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", f"/v1/videos/{made}/events")
        answer = connection.getresponse()
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))

    thread = threading.Thread(target=listen)
    thread.start()
    server.until(made, "in_progress")
    early = server.ask("GET", f"/v1/videos/{made}/content")
    assert early.status == 409 and early.json["error"]["code"] == "not_ready"
    hold.unlink()
    thread.join(60)
    hold.touch()
    assert found[-1]["status"] == "completed" and found[-1]["progress"] == 100
    shares = [one["progress"] for one in found]
    assert shares == sorted(shares) and shares[0] < 100


def test_the_same_idempotency_key_makes_one_video(server: Server) -> None:
    key = {"Idempotency-Key": "order-17"}
    first, second = (server.post(picture(9), headers=key, seed=3, variations=2) for _ in range(2))
    assert first.json["id"] == second.json["id"] and len(first.json["variations"]) == 2
    other = server.post(picture(9), headers=key, seed=4)
    assert (other.status, other.json["error"]["code"]) == (409, "idempotency_key_reused")
    assert server.post(picture(9), headers={"Idempotency-Key": "k" * 300}).status == 400


def test_variations_again_reviews_and_downloads(server: Server) -> None:
    asked = server.post(picture(61), name="red dress.png", variations=3, seed=11, prompt="=1+1").json
    one, two, three = server.wait(*asked["variations"])
    assert [(v["variation"], v["seed"], v["group"]) for v in (one, two, three)] == [
        (n, 11, one["id"]) for n in range(3)
    ]
    approved = server.ask("POST", f"/v1/videos/{one['id']}/review", {"verdict": "approved"})
    assert approved.json["review"] == "approved"
    server.ask("POST", f"/v1/videos/{two['id']}/review", {"verdict": "rejected"})
    again = server.ask("POST", f"/v1/videos/{two['id']}/again", {}).json
    assert again["remixed_from_video_id"] == two["id"] and again["seed"] != 11 and again["group"] == one["id"]
    server.wait(again["id"])
    for body in ({"verdict": "perhaps"}, {}):
        assert server.ask("POST", f"/v1/videos/{one['id']}/review", body).status == 400
    table = server.ask("GET", "/v1/download?format=csv&review=approved").body.decode().splitlines()
    assert len(table) == 2 and table[1].startswith("red dress.mp4,") and ",'=1+1,approved," in table[1]
    (server.folder.parent / "all.zip").write_bytes(server.ask("GET", "/v1/download").body)
    import zipfile

    with zipfile.ZipFile(server.folder.parent / "all.zip") as archive:
        assert archive.testzip() is None
        assert {"videos.csv", "red dress.mp4", "red dress-2.mp4", "red dress-4.mp4"} <= set(archive.namelist())
    reviews = [json.loads(line) for line in (server.folder / "review.jsonl").read_text().splitlines()]
    assert [(line["item"], line["verdict"]) for line in reviews] == [(one["id"], "approved"), (two["id"], "rejected")]


def test_operation(server: Server) -> None:
    assert server.ask("GET", "/healthz").json == {"status": "ok"}
    assert server.ask("GET", "/readyz").json == {"status": "ready"}
    text = server.ask("GET", "/metrics").body.decode()
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        assert line.startswith("# ") or (name.startswith("fashionflow_") and float(value) >= 0)
    schema = server.ask("GET", "/openapi.json").json
    assert {"/v1/videos", "/v1/videos/{video_id}", "/v1/videos/{video_id}/content"} <= set(schema["paths"])
    assert "input_reference" in json.dumps(schema["paths"]["/v1/videos"]["post"]["requestBody"])
    assert b"WIDTHxHEIGHT" in server.ask("GET", "/docs").body
    log = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert {"time", "method", "path", "status", "seconds", "address", "client"} <= set(log[-1])


def test_captions_and_names_of_any_script(server: Server) -> None:
    text = 'Été 👗 "夏" \u202e\x00\x1b[31m'
    made = server.ask("POST", "/v1/videos", *_posted(text, "Kleid – été 👗.png"))
    assert (made.status, made.json["prompt"], made.json["photo_name"]) == (200, text, "Kleid – été 👗.png")
    (state,) = server.wait(made.json["id"])
    assert state["status"] == "completed" and state["prompt"] == text
    assert text.replace('"', '""') in server.ask("GET", "/v1/download?format=csv").body.decode()


def _posted(prompt: str, name: str) -> tuple[bytes, dict[str, str]]:
    body, kind = form({"prompt": "MARK", "input_reference": (name, picture(12))})
    return body.replace(b"MARK", prompt.encode()), {"Content-Type": kind}


def test_names_of_a_catalogue_that_are_not_unicode(tmp_path: Path) -> None:
    """`generate` names items by their files, which may be any bytes; answers are UTF-8."""
    line = {"item": "a\udcff", "source": "a\udcff.jpg", "status": "done", "seed": 1, "caption": "half \ud800"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line) + "\n")
    store = VideoStore(tmp_path, LIMITS)
    options = ServerOptions(RunSpec(str(ASSETS / "mini"), str(tmp_path), ""), devices=())
    endpoint = Endpoint(options, store, MINI, lambda: True, str, PhotoFetcher(frozenset(), 0))
    (video,) = store.videos.values()
    found = endpoint.json(video)
    store.close()
    assert json.dumps(found, ensure_ascii=False).encode()
    assert (found["photo_name"], found["prompt"]) == ("a?", "half ?")


def test_a_size_is_width_by_height() -> None:
    """As in OpenAI's API; settings have height first."""
    asked = read_fields({"size": "720x1280", "seconds": "4", "seed": "7.0"}, MINI, LIMITS)
    assert (asked.resolved.size, asked.size, asked.seconds) == ((1280, 720), "720x1280", 4.0)
    assert asked.resolved.seed == 7
    assert read_fields({"width": 720, "height": "1280"}, MINI, LIMITS).resolved.size == (1280, 720)


def test_fields_of_other_servers_and_of_this_one() -> None:
    extra = nested({"extra[motion]": "sway", "extra[loop]": "true", "num_inference_steps": "6", "fps": "12"})
    asked = read_fields(extra | {"seconds": 2}, MINI, LIMITS)
    assert asked.resolved.motion is not None
    assert (asked.resolved.motion.kind, asked.resolved.motion.loop) == ("sway", True)
    assert (asked.resolved.steps, asked.resolved.fps, asked.resolved.video_frames) == (6, 12, 24)
    assert read_fields({"extra": '{"motion_amount": 10, "variations": 3}'}, MINI, LIMITS).variations == 3
    of_others = {"num_frames": 8, "seconds": 4, "generator_device": "cuda", "true_cfg_scale": 1.0, "user": "me"}
    asked = read_fields(of_others, MINI, LIMITS)
    assert asked.resolved.video_frames == 8 and len(asked.notes) == 4
    frames = read_fields({"seconds": "1"}, LATENT, LIMITS).resolved.frames
    assert frames == round(LATENT.fps / 2) * 2


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"size": "1280"}, "size: '1280' is not WIDTHxHEIGHT"),
        ({"size": "99999x99999"}, "pixels"),
        ({"size": "16x16"}, "at least 32"),
        ({"seconds": "0"}, "above 0"),
        ({"seconds": "nan"}, "not a number"),
        ({"seconds": "1e9"}, "not a number"),
        ({"seconds": "3000"}, "at most 60 s"),
        ({"fps": "100000", "seconds": "1"}, "fps"),
        ({"fps": "900", "seconds": "60"}, "frames"),
        ({"seed": "1.5"}, "whole number"),
        ({"num_inference_steps": 1001}, "num_inference_steps: must be at most 1000"),
        ({"seed": "-1"}, "seed"),
        ({"seed": True}, "not a number"),
        ({"variations": "9"}, "from 1 to 8"),
        ({"extra": "[1]"}, "not a JSON object"),
        ({"extra": {"moton": "sway"}}, "unknown setting 'moton'"),
        ({"extra": {"motion": "fly"}}, "motion"),
        ({"extra": {"motion": {"a": 1}}}, "not a word"),
        ({"extra": {"decode_chunk": 1}}, "unknown setting"),
        ({"promt": "x"}, "unknown field"),
        ({"prompt": "x" * 5000}, "4000 characters"),
        ({"prompt": ["x"]}, "not a text"),
    ],
)
def test_what_cannot_be_meant_is_named(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_fields(fields, MINI, LIMITS)
    assert words in caught.value.message


@pytest.mark.slow
def test_the_bundled_model_end_to_end(tmp_path: Path) -> None:
    """A portrait: `size` is width by height, and so is the video."""
    photo = (ASSETS.parents[1] / "examples" / "dress.jpg").read_bytes()
    with serving(tmp_path / "out", "--device", "cpu", model="mini") as server:
        asked = {"size": "128x160", "num_frames": 8, "seed": 3, "extra": '{"motion": "turn"}'}
        made = [server.made(photo, **asked) for _ in range(2)]
        within, exact = (
            server.made(photo, size="128x192", num_frames=2, extra=f'{{"fit": "{fit}"}}') for fit in ("pad", "crop")
        )
        states = server.wait(*made, seconds=240)
        sizes = [(state["size"], len(state["warnings"])) for state in server.wait(within, exact, seconds=240)]
        files = [server.ask("GET", f"/v1/videos/{name}/content").body for name in made]
    assert [state["status"] for state in states] == ["completed"] * 2, states
    assert {(state["size"], state["model"], state["seed"]) for state in states} == {("128x160", "mini", 3)}
    assert sizes == [("128x160", 1), ("128x192", 0)]
    (tmp_path / "a.mp4").write_bytes(files[0])
    (tmp_path / "b.mp4").write_bytes(files[1])
    frames = video.read(tmp_path / "a.mp4")
    assert frames.shape == (8, 160, 128, 3)
    assert (frames == video.read(tmp_path / "b.mp4")).all()
