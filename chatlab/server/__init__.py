"""The endpoint over HTTP: a server that behaves, and fails, like the hosted ones."""

from chatlab.server.running import Server, serve
from chatlab.server.settings import ServerSettings

__all__ = ["Server", "ServerSettings", "serve"]
