"""What the black-box tests stand on: a gyre process, its HTTP side, raw WebSocket bytes, tokens and waiting."""

from .node import CORES, Gyre, running
from .ports import free_port
from .tokens import channel_token, token
from .waiting import eventually
from .wire import Closed, Wire

__all__ = ["CORES", "Closed", "Gyre", "Wire", "channel_token", "eventually", "free_port", "running", "token"]
