"""The parts of `tests/hub_server.py`."""
