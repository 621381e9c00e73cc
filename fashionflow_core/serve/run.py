"""Server lifecycle: start, listen, graceful stop."""

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fashionflow_core.catalogue.outputs import opened
from fashionflow_core.config import ModelConfig
from fashionflow_core.errors import FashionFlowError, Wording, option, reason_of
from fashionflow_core.serve.addresses import PhotoFetcher
from fashionflow_core.serve.dispatcher import Dispatcher
from fashionflow_core.serve.metrics import ServerMetrics
from fashionflow_core.serve.settings import ServerOptions
from fashionflow_core.serve.video_store import VideoStore
from fashionflow_core.serve.web_server import logged_as_json, web_server
from fashionflow_core.utils import extras


def check_extra() -> None:
    """Check that the packages of the extra are installed.

    Raises:
        FashionFlowError: one is missing.
    """
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise FashionFlowError(
            f"a server needs {error.name}, which is not installed", hint=extras.install("serve")
        ) from None


def serve(options: ServerOptions, announce: Callable[[str], None], log: Callable[[str], None]) -> None:
    """Serve until a signal arrives; videos that are still queued stay in the folder for the next start.

    Args:
        options: settings of the server.
        announce: called with the server's address once it listens.
        log: called with each log line, from any thread.

    Raises:
        UsageError: the model does not support the settings.
        FashionFlowError: the port or the folder is in use, or the model cannot be opened.
    """
    check_extra()
    work = options.work
    config = ModelConfig.load(work.model)
    work.settings.resolve(config)
    work.load.check(config)
    with opened(Path(work.out)) as scratch, listening(options.host, options.port) as listener:
        store = VideoStore(Path(work.out), options.limits, work.suffix)
        words, Wording.current = Wording.current, Wording()  # messages to clients name settings, not flags
        try:
            with logged_as_json(log):
                _Run(replace(options, work=replace(work, scratch=str(scratch))), store, config, log)(listener, announce)
        finally:
            Wording.current = words
            store.close()


def listening(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        FashionFlowError: the address is in use, or is not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError, UnicodeError) as error:
        problem = f"{host}:{port}: {reason_of(error)}"
        raise FashionFlowError(problem, hint=f"choose another {option('port')}") from None


class _Run:
    """One server: the web server and the dispatcher on a thread each, signals on the main thread."""

    def __init__(
        self, options: ServerOptions, store: VideoStore, config: ModelConfig, log: Callable[[str], None]
    ) -> None:
        from fashionflow_core.serve.endpoint import build_app
        from fashionflow_core.serve.served import Endpoint

        self.options, self.store = options, store
        self.error: FashionFlowError | None = None
        self.ended = threading.Event()
        self.dispatcher = None
        if options.devices:
            self.dispatcher = Dispatcher(options.work, store, options.devices, self._failed, options.module)
        fetcher = PhotoFetcher(options.url_hosts, options.limits.body_bytes)
        self.endpoint = Endpoint(options, store, config, self._is_ready, self._problem, fetcher)
        self.app = build_app(self.endpoint, ServerMetrics(store), log)

    def _failed(self, error: FashionFlowError) -> None:
        self.error = error
        self.ended.set()

    def _is_ready(self) -> bool:
        return self.dispatcher is None or self.dispatcher.is_ready

    def _problem(self) -> str:
        return "this server only displays videos" if self.dispatcher is None else self.dispatcher.problem

    def __call__(self, listener: socket.socket, announce: Callable[[str], None]) -> None:
        server = web_server(self.app)
        loop: list[asyncio.AbstractEventLoop] = []

        async def run() -> None:
            loop.append(asyncio.get_running_loop())
            await server.serve([listener])

        def run_thread() -> None:
            try:
                asyncio.run(run())
            finally:
                self.ended.set()

        thread = threading.Thread(target=run_thread, name="web", daemon=True)
        if self.dispatcher is not None:
            self.dispatcher.start()
        thread.start()
        host, port = listener.getsockname()[:2]
        announce(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            # Not Event.wait without a limit: on some systems no signal interrupts it.
            while not self.ended.wait(0.2):
                pass
        except BaseException as interruption:
            # Ctrl-C or SIGTERM: the normal end of a server; a second one interrupts the graceful stop below.
            if isinstance(interruption, Exception):
                raise
        finally:
            server.should_exit = True
            with suppress(RuntimeError, IndexError):
                loop[0].call_soon_threadsafe(self.endpoint.stopping.set)
            if self.dispatcher is not None:
                self.dispatcher.stop()
            thread.join(10)
        if self.error is not None:
            raise self.error
